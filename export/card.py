"""The model card, in Markdown, from what an export measured and what its contract says."""

from export.record import ExportRecord
from export.speed import ROUNDS
from service.inference.contract import ModelContract, Validation

_ROUNDED_ON = {
    True: "volumes that the network never saw",
    False: "volumes that the network learned from, which tells the rounding and nothing else",
}


def card(contract: ModelContract, record: ExportRecord) -> str:
    """The card of the int8 file, whose contract this is."""
    return "\n".join(
        [
            f"# {contract.name} {contract.version}",
            "",
            contract.description,
            "",
            "**Research use only. Not a medical device, not for diagnosis.**",
            "",
            *_facts(contract, record),
            "",
            "## What it reached",
            "",
            contract.validation.method,
            "",
            *_reached(contract.validation),
            "",
            "## What the export changed",
            "",
            *_precisions(record),
            "",
            "## Limits",
            "",
            *(f"- {limit}" for limit in contract.limitations),
            "",
        ]
    )


def _facts(contract: ModelContract, record: ExportRecord) -> list[str]:
    data, thresholds = contract.training_data, contract.thresholds
    fov, grid = contract.field_of_view, contract.grid
    rows = {
        "Finds": "liver and liver tumours on axial CT slices",
        "Architecture": f"{contract.architecture}; {record.network.parameters / 1e6:.1f} million "
        f"parameters, on a grid of {grid} x {grid} over the square field of view",
        "Window": f"{contract.window.lower_hu:g} to {contract.window.upper_hu:g} HU; what lies "
        "outside cannot be told apart",
        "Trained on": f"{data.cases} volumes, {data.slices} slices of {data.name}",
        "Training": f"{record.network.training_slices} slices drawn, repeats counted",
        "Volumes": ", ".join(data.volumes),
        "Licence": f"{contract.license}; data: {data.license}",
        "Field of view seen": f"{fov.smallest_mm:g} to {fov.largest_mm:g} mm",
        "Decision": f"organ from a probability of {thresholds.liver:g}, tumour from "
        f"{thresholds.tumor:g} of the organ's",
        "Smallest lesion reported": f"{contract.min_lesion_mm3:g} mm3, or "
        f"{contract.min_lesion_px} pixels where the spacing is not known",
    }
    if limits := str(contract.lesion_limits):
        rows["Asked of a lesion"] = limits
    return ["| What | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in rows.items())]


def _reached(validation: Validation) -> list[str]:
    rows = [
        f"| {name} | {_dice(dice['liver'])} | {_dice(dice['tumor'])} |"
        for name, dice in validation.per_case.items()
    ]
    mean = (
        f"| mean | **{validation.liver_dice_per_case:.4f}** | "
        f"**{validation.tumor_dice_per_case:.4f}** over the {validation.cases_with_tumor} with "
        "tumour |"
    )
    return ["| Volume | Liver Dice | Tumour Dice |", "| --- | --- | --- |", *rows, mean]


def _dice(value: float | None) -> str:
    return "no tumour in it" if value is None else f"{value:.4f}"


def _precisions(record: ExportRecord) -> list[str]:
    drift, rounding, speed = record.keras_and_float32, record.rounding, record.slices_per_second
    sizes = {file.name: f"{file.bytes / 1e6:.1f} MB" for file in record.files}
    agreement = {
        "float32": "",
        "float16": f"{record.float32_and_float16.label_agreement:.4%}",
        "int8": f"{record.float32_and_int8.label_agreement:.4%}",
    }
    rows = [
        f"| {name} | {sizes[f'model.{name}.onnx']} | {getattr(speed, name):.1f} | {equal} |"
        for name, equal in agreement.items()
    ]
    return [
        f"The float32 graph gives Keras' probabilities to within "
        f"{drift.largest_probability_difference:.1e} on {drift.pixels} pixels of odd sizes and "
        f"extreme values; {drift.differing_labels} labels differ.",
        "",
        f"| Precision | File | Slices/s on {speed.cores} cores | Labels as float32's, phantom |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        f"Slices/s: {speed.batch} slices of 512 x 512 on each lane of the service at once, the "
        f"best of {ROUNDS} rounds. `training compare` measures one session on all cores instead.",
        "",
        f"Mean Dice over {rounding.cases} {_ROUNDED_ON[rounding.held_out]} ({rounding.slices} "
        f"slices): liver {rounding.float32.liver:.4f} in float32 and {rounding.int8.liver:.4f} in "
        f"int8, tumour {_mean(rounding.float32.tumor)} and {_mean(rounding.int8.tumor)}.",
    ]


def _mean(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"
