"""An evaluation from predictions whose errors are known to every figure of its report."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_cases import make_case, phantom_case, said

from service.inference.contract import Thresholds
from service.inference.postprocess import components
from service.notices import Notice
from service.volume import HounsfieldWindow
from training.config import TrainingConfig
from training.data import Case
from training.evaluation.decision import Choice, Cleaning
from training.evaluation.evaluate import evaluate, predictions, settled
from training.evaluation.report import cases_csv, page, write_page, write_values
from training.evaluation.results import Conditions, Evaluation, Subject
from training.prediction import Prediction, decided

SUBJECT = Subject(name="fake", kind="network", training_slices=8000)
FALSE_VOXELS = 8


def missing_one_adding_one(case: Case) -> Prediction:
    """The truth without its smallest lesion, and with a lesion of 2 x 2 x 2 voxels in the liver."""
    labels = case.labels()
    lesions, sizes = components(labels == 2)
    if len(sizes) > 1:
        labels[lesions == int(sizes[1:].argmin()) + 1] = 1
    inner = np.argwhere(labels == 1)
    # Far from every lesion: a corner of the liver's lowest slices.
    start = tuple(inner[inner[:, 0] == inner[:, 0].min() + 4][0])
    labels[tuple(slice(place, place + 2) for place in start)] = 2
    return said(labels)


def truth(case: Case) -> Prediction:
    return said(case.labels())


@pytest.fixture(scope="module")
def cases() -> tuple[Case, ...]:
    """Two cases with three lesions each, and one without any."""
    return (
        phantom_case("one", 7),
        phantom_case("two", 8),
        phantom_case("three", 9, lesions=0),
    )


@pytest.fixture(scope="module")
def found(cases: tuple[Case, ...]) -> Evaluation:
    conditions = Conditions()
    return evaluate(predictions(missing_one_adding_one, cases, conditions), SUBJECT, conditions)


def test_figures_follow_from_the_errors(cases: tuple[Case, ...], found: Evaluation) -> None:
    """Dice, detection, false lesions and burden of a missed and a false lesion in each case."""
    dices = []
    for case, metrics in zip(cases[:2], found.cases[:2], strict=True):
        size = case.tumor_px
        missed = int(components(case.labels() == 2)[1][1:].min())
        dices.append(2 * (size - missed) / (size + size - missed + FALSE_VOXELS))
        assert metrics.tumor.overlap.dice == pytest.approx(dices[-1])
        assert metrics.burden_error == pytest.approx((FALSE_VOXELS - missed) / case.liver_px)
    figures = found.figures
    bearing = figures["tumor_bearing"]["dice"]
    assert (bearing.value, bearing.cases) == (pytest.approx(np.mean(dices)), 2)
    # The case without tumour has a false lesion, so it counts 0 among all three.
    assert figures["tumor"]["dice"].value == pytest.approx(np.sum(dices) / 3)
    assert figures["tumor_free"]["false_lesions_per_case"].value == 1
    # 4 of 6 lesions found; 4 of 7 predicted ones right.
    assert figures["detection"]["recall"].value == pytest.approx(4 / 6)
    assert figures["detection"]["precision"].value == pytest.approx(4 / 7)
    assert figures["detection"]["f1"].value == pytest.approx(2 * 4 / 13)
    assert figures["detection"]["lesion_dice"].value == 1
    errors = [case.burden_error for case in found.cases]
    assert figures["burden"]["rmse"].value == pytest.approx(np.sqrt(np.mean(np.square(errors))))
    assert figures["burden"]["largest_error"].value == pytest.approx(np.abs(errors).max())


def test_pooled_dice_is_of_all_voxels(cases: tuple[Case, ...], found: Evaluation) -> None:
    """Large cases weigh more in it than in the mean."""
    overlaps = [case.tumor.overlap for case in found.cases]
    common = sum(item.common_voxels for item in overlaps)
    both = sum(item.reference_voxels + item.predicted_voxels for item in overlaps)
    assert found.figures["tumor"]["dice_global"].value == pytest.approx(2 * common / both)


def test_liver_is_liver_with_tumour(found: Evaluation) -> None:
    """Mistaking liver for tumour is no mistake about the liver."""
    assert found.figures["liver"]["dice"].value == 1
    assert found.figures["liver"]["assd_mm"].value == 0


def test_what_is_not_defined_is_left_out_and_counted(found: Evaluation) -> None:
    """The case without tumour has no RVD and no distances of tumour."""
    for name in ("rvd", "assd_mm", "mssd_mm", "rmsd_mm"):
        figure = found.figures["tumor"][name]
        assert (figure.cases, figure.left_out) == (2, 1)
        assert figure.value == found.figures["tumor_bearing"][name].value


def test_perfect_prediction_is_perfect(cases: tuple[Case, ...]) -> None:
    """Also for a case without tumour, where none is found."""
    conditions = Conditions()
    perfect = evaluate(predictions(truth, cases, conditions), SUBJECT, conditions)
    for group, name in (("liver", "dice"), ("tumor", "dice"), ("detection", "f1")):
        assert perfect.figures[group][name].value == 1
    assert perfect.figures["tumor_free"]["false_lesions_per_case"].value == 0
    assert perfect.calibration is not None
    assert perfect.calibration.expected_error == 0


def test_without_spacing_there_is_nothing_in_mm(cases: tuple[Case, ...]) -> None:
    """Unless a spacing is assumed, and then the report says so."""
    plain = make_case("plain", cases[0].labels())
    unknown = evaluate([(plain, truth(plain))], SUBJECT, Conditions())
    assert unknown.figures["liver"]["assd_mm"].value is None
    assert unknown.cases[0].lesions.reference[0].volume_mm3 is None
    assert "nothing is given in mm" in page(unknown).html({})
    assumed = Conditions(assumed_spacing_mm=(2, 0.75, 0.75))
    guessed = evaluate([(plain, truth(plain))], SUBJECT, assumed)
    assert guessed.figures["liver"]["assd_mm"].value == 0
    assert guessed.cases[0].lesions.reference[0].volume_mm3 == pytest.approx(
        guessed.cases[0].lesions.reference[0].voxels * 1.125
    )
    assert "2 x 0.75 x 0.75 mm (slice, row, column) was assumed" in page(guessed).html({})


def test_lesions_do_not_go_on_over_left_out_slices() -> None:
    """Two slices six steps apart hold two lesions; side by side they would be one."""
    labels = np.full((2, 4, 4), 2, dtype=np.uint8)
    case = make_case("case", labels, numbers=[0, 12])
    apart = evaluate([(case, said(labels))], SUBJECT, Conditions(slice_step=2))
    assert len(apart.cases[0].lesions.reference) == 2
    together = evaluate([(case, said(labels))], SUBJECT, Conditions(slice_step=12))
    assert len(together.cases[0].lesions.reference) == 1


def test_other_thresholds_decide_again() -> None:
    """Labels follow from the kept probabilities; without them there is nothing to decide on."""
    case = make_case("case", np.ones((1, 2, 2), dtype=np.uint8))
    kept = decided(np.full((1, 2, 2), 0.9), np.full((1, 2, 2), 0.36), Thresholds())
    lower = Conditions(thresholds=Thresholds(liver=0.5, tumor=0.3))
    assert (kept.labels == 1).all()
    assert (settled(kept, case, lower).labels == 2).all()
    with pytest.raises(ValueError, match="expected probabilities"):
        settled(Prediction(kept.labels, kept.tumor_probability), case, lower)


def test_cleaning_is_the_services() -> None:
    """A speck below the smallest lesion becomes liver; a fragment of liver goes."""
    labels = np.zeros((8, 12, 12), dtype=np.uint8)
    labels[1:7, 2:8, 2:8] = 1
    labels[3, 4, 4] = 2
    labels[3, 11, 11] = 1
    case = make_case("case", labels, spacing_mm=(4, 2, 2))
    cleaned = settled(said(labels), case, Conditions(cleaning=Cleaning(min_lesion_mm3=20))).labels
    assert cleaned[3, 4, 4] == 1
    assert cleaned[3, 11, 11] == 0
    kept = settled(said(labels), case, Conditions(cleaning=Cleaning(min_lesion_mm3=2))).labels
    assert kept[3, 4, 4] == 2


def test_codalab_is_only_on_demand(cases: tuple[Case, ...], found: Evaluation) -> None:
    """Its counts replace the meant ones, and the report warns."""
    conditions = Conditions(compat="codalab")
    theirs = evaluate(predictions(missing_one_adding_one, cases, conditions), SUBJECT, conditions)
    assert set(theirs.figures["detection"]) == {"precision", "recall"}
    counts = [case.codalab[0] for case in theirs.cases if case.codalab]
    assert sum(one.found for one in counts) == 3  # 4 by the definition, lost to its numbering
    assert theirs.figures["detection"]["recall"].value == pytest.approx(3 / 6)
    assert theirs.figures["detection"]["precision"].value == pytest.approx(3 / 7)
    assert theirs.figures["tumor"]["dice"] == found.figures["tumor"]["dice"]
    assert "for comparison with published tables only" in page(theirs).html({})
    assert "published tables" not in page(found).html({})


def test_codalab_measures_detected_lesions_only(cases: tuple[Case, ...]) -> None:
    """What is detected here is exact, so nothing is off by anything: neither the missed lesions nor
    the case that has none count. Of a case's tumour it gives none of these figures.
    """
    conditions = Conditions(compat="codalab")
    theirs = evaluate(predictions(missing_one_adding_one, cases, conditions), SUBJECT, conditions)
    names = ("voe", "rvd", "assd_mm", "mssd_mm", "rmsd_mm")
    for name in names:
        figure = theirs.figures["detected_lesions"][name]
        assert (figure.value, figure.cases, figure.left_out) == (0, 2, 1)
        assert name not in theirs.figures["tumor"]
        assert name not in theirs.figures["tumor_bearing"]


def test_codalab_counts_a_liver_that_was_not_found() -> None:
    """9001 in the place of distances and RVD, where the definition has none."""
    labels = np.zeros((4, 8, 8), dtype=np.uint8)
    labels[1:3, 2:6, 2:6] = 1
    case = make_case("case", labels, spacing_mm=(4, 2, 2))
    pairs = [(case, said(labels)), (case, said(np.zeros_like(labels)))]
    theirs = evaluate(pairs, SUBJECT, Conditions(compat="codalab")).figures["liver"]
    meant = evaluate(pairs, SUBJECT, Conditions()).figures["liver"]
    for name in ("rvd", "assd_mm"):
        assert (theirs[name].value, theirs[name].left_out) == (9001 / 2, 0)
    assert (meant["assd_mm"].value, meant["assd_mm"].left_out) == (0, 1)


def test_report_holds_the_figures(found: Evaluation, tmp_path: Path) -> None:
    """JSON reads back as it was, CSV has a row a case, the page shows values with intervals."""
    write_values(found, tmp_path)
    write_page(found, tmp_path, {"A figure": b"png"})
    assert Evaluation.read(tmp_path / "evaluation.json") == found
    rows = list(csv.DictReader(io.StringIO(cases_csv(found))))
    assert [row["case"] for row in rows] == ["one", "two", "three"]
    assert float(rows[0]["tumor_dice"]) == found.cases[0].tumor.overlap.dice
    assert rows[2]["tumor_rvd"] == ""
    assert [int(row["lesions_found"]) for row in rows] == [2, 2, 0]
    html = (tmp_path / "report.html").read_text()
    dice = found.figures["tumor_bearing"]["dice"]
    assert f"{dice.value:.4f} [{dice.low:.4f}, {dice.high:.4f}]" in html
    for text in ("Research use only", found.data_sha256, "8,000", "data:image/png;base64,cG5n"):
        assert text in html
    assert "http" not in html
    assert json.loads((tmp_path / "evaluation.json").read_text())["conditions"]["compat"] == "paper"


def test_tables_hold_the_figures_in_their_places(cases: tuple[Case, ...]) -> None:
    """Row by row: of a case found lesions before touched ones, by fold tumour before liver, and how
    many cases a figure is not defined for.
    """
    truth_labels = cases[0].labels()
    lesions, _ = components(truth_labels == 2)
    partly = truth_labels.copy()
    first = np.argwhere(lesions == 1)
    partly[tuple(first[: len(first) * 3 // 4].T)] = 1  # a quarter of it is left: touched, not found
    partly[0] = 1  # and liver where there is none
    folded = SUBJECT.model_copy(
        update={"kind": "out_of_fold", "folds": {"one": 1, "two": 0, "three": 0}}
    )
    settled_cases = [(cases[0], said(partly)), *((case, truth(case)) for case in cases[1:])]
    found = evaluate(settled_cases, folded, Conditions())
    tables = {table.title: table for table in page(found).tables}
    one = found.cases[0]
    row = dict(zip(tables["Cases"].head, tables["Cases"].rows[0], strict=True))
    assert (row["case"], row["lesions"], row["found"], row["touched"]) == ("one", "3", "2", "3")
    assert (row["predicted"], row["touch none"]) == ("3", "0")
    assert row["liver Dice"] == f"{one.liver.overlap.dice:.3f}" != row["tumour Dice"]
    assert row["tumour Dice"] == f"{one.tumor.overlap.dice:.3f}" != "1.000"
    assert tables["By fold"].rows == [
        ["0", "2", "1.0000", "1.0000", "0.0000"],
        ["1", "1", f"{one.tumor.overlap.dice:.4f}", f"{one.liver.overlap.dice:.4f}", "–"],
    ]
    all_cases = tables["Tumour, all cases (1 where there is none and none was found)"]
    rows = {row[0]: row[1:] for row in all_cases.rows}
    assert rows["Dice"][2:] == ["3", ""]
    assert rows["relative volume difference"][2:] == ["2", "1"]


def test_what_no_case_defines_is_told() -> None:
    """A dash and how many are left out, in the place of a row that is not there."""
    labels = np.ones((2, 8, 8), dtype=np.uint8)
    nothing = evaluate([(make_case("case", labels), said(labels))], SUBJECT, Conditions())
    tables = {table.title: table for table in page(nothing).tables}
    rows = {row[0]: row[1:] for row in tables["Liver with tumour, all cases"].rows}
    assert rows["ASSD, mm"] == ["–", "", "0", "1"]


def test_what_the_decoder_found_odd_is_told(cases: tuple[Case, ...]) -> None:
    odd = replace(cases[0], notices=(Notice("orientation_unknown", "no form"),))
    html = page(evaluate([(odd, truth(odd))], SUBJECT, Conditions())).html({})
    assert "orientation_unknown: one " in html


def test_a_spacing_is_assumed_only_where_none_is_told(cases: tuple[Case, ...]) -> None:
    """Cases that have their own are no guesses, whatever was asked for."""
    conditions = Conditions(assumed_spacing_mm=(2, 0.75, 0.75))
    own = evaluate([(cases[0], truth(cases[0]))], SUBJECT, conditions)
    assert "guesses" not in page(own).html({})
    plain = make_case("plain", cases[0].labels())
    both = [(case, truth(case)) for case in (cases[0], plain)]
    assert "assumed for 1 of the 2 cases" in page(evaluate(both, SUBJECT, conditions)).html({})


def test_report_warns_of_cases_that_were_trained_on(cases: tuple[Case, ...]) -> None:
    """Their figures say nothing of new cases."""
    learned = SUBJECT.model_copy(update={"trained_on": ("two", "four")})
    seen = evaluate([(cases[1], truth(cases[1]))], learned, Conditions())
    assert seen.seen_in_training == ("two",)
    assert "1 of the 1 cases were trained on" in page(seen).html({})


def test_cases_of_a_patient_are_resampled_together(cases: tuple[Case, ...]) -> None:
    """Two of the three cases are of one patient; with all three of one there is no interval."""

    def of_patients(*group: str) -> Evaluation:
        config = TrainingConfig(
            name="tiny",
            window=HounsfieldWindow(lower_hu=-40, upper_hu=160),
            same_patient=(group,) if group else (),
        )
        learned = SUBJECT.model_copy(update={"configuration": config.model_dump(mode="json")})
        return evaluate(
            predictions(missing_one_adding_one, cases, Conditions()), learned, Conditions()
        )

    apart, two, all_three = (
        of_patients(),
        of_patients("one", "two"),
        of_patients("two", "one", "three"),
    )
    assert [case.patient for case in two.cases] == ["one", "one", None]
    figures = [found.figures["tumor"]["dice"] for found in (apart, two, all_three)]
    assert len({figure.value for figure in figures}) == 1
    # The best that two patients can give is the mean of the first one's cases; single cases can
    # give the better of them alone, in 1 of 27 resamples.
    dices = [case.tumor.overlap.dice for case in apart.cases[:2]]
    assert (figures[0].high, figures[1].high) == pytest.approx((max(dices), np.mean(dices)))
    assert dices[0] != dices[1]
    assert figures[2].high is None
    assert "bootstrap over 2 patients" in page(two).html({})
    assert "over so few" in page(apart).html({})


@pytest.mark.parametrize("own", [True, False])
def test_report_says_whose_predictions_chose(cases: tuple[Case, ...], own: bool) -> None:
    """The worth of a choice is quoted only for the recipe whose predictions made it."""
    config = TrainingConfig(name="tiny", window=HounsfieldWindow(lower_hu=-40, upper_hu=160))
    learned = SUBJECT.model_copy(update={"configuration": config.model_dump(mode="json")})
    other = config.model_copy(update={"grid": 128})
    chosen = Choice(
        cases=("one",),
        recipe_sha256=(config if own else other).recipe_sha256,
        left_out_tumor_dice=0.625,
    )
    found = evaluate([(cases[0], truth(cases[0]))], learned, Conditions(chosen=chosen))
    html = page(found).html({})
    assert "chosen on 1 of the 1 cases" in html
    assert ("0.6250" in html) == own
    assert ("another recipe" in html) != own


def test_other_shapes_are_refused(cases: tuple[Case, ...]) -> None:
    """A prediction of another case is not compared."""
    with pytest.raises(ValueError, match=f"{cases[0].name}: expected the shape"):
        evaluate([(cases[0], said(cases[0].labels()[1:]))], SUBJECT, Conditions())


def test_no_case_has_no_figures() -> None:
    """Everything is None, nothing fails."""
    nothing = evaluate([], SUBJECT, Conditions())
    assert {one.value for group in nothing.figures.values() for one in group.values()} == {None}
    assert "Cases" in page(nothing).html({})
