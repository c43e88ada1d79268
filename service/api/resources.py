"""What a running service holds: its settings, its model once it is ready, its admission."""

from dataclasses import dataclass

from fastapi import Request

from service.api.admission import Admission
from service.errors import ModelNotReady, StartupError
from service.inference.segment import Segmenter
from service.settings import Settings


@dataclass
class Resources:
    """Made in the lifespan. `model` is None until it is ready; `failure` says why it never will."""

    settings: Settings
    admission: Admission
    model: Segmenter | None = None
    failure: StartupError | None = None

    def ready_model(self) -> Segmenter:
        """The model. Raises `ModelNotReady`, naming the failure's code where there is one."""
        if self.model is not None:
            return self.model
        if self.failure is not None:
            raise ModelNotReady(f"{self.failure.title} ({self.failure.code}) {self.failure}")
        raise ModelNotReady("The model is being loaded.")


def resources(request: Request) -> Resources:
    """The service behind a request, for routes."""
    held = request.app.state.resources
    if not isinstance(held, Resources):
        raise TypeError("the application was not started through its lifespan")
    return held
