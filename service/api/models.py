"""The models that this service runs, each with its contract as a model card."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from service.api.openapi import problems
from service.api.resources import Resources, resources
from service.encode.document import ModelDocument
from service.errors import ModelNotReady, NotFound
from service.inference.contract import ModelContract

router = APIRouter(prefix="/v1/models", tags=["models"])


class ModelCard(BaseModel):
    """A model as it runs here, and everything it says of itself."""

    model: ModelDocument
    contract: ModelContract


class ModelList(BaseModel):
    """The loaded models."""

    models: tuple[ModelDocument, ...]


@router.get(
    "", operation_id="list_models", summary="Loaded models", responses=problems(ModelNotReady)
)
async def list_models(service: Annotated[Resources, Depends(resources)]) -> ModelList:
    return ModelList(models=(ModelDocument.of(service.ready_description()),))


@router.get(
    "/{name}",
    operation_id="get_model",
    summary="A model's card",
    responses=problems(NotFound, ModelNotReady),
)
async def get_model(name: str, service: Annotated[Resources, Depends(resources)]) -> ModelCard:
    model = service.ready_description()
    if name != model.contract.name:
        raise NotFound(f"Expected the name of a loaded model: {model.contract.name}.")
    return ModelCard(model=ModelDocument.of(model), contract=model.contract)
