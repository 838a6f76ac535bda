"""What was chosen on the reported images is said: the threshold, by whom, and what that means elsewhere."""

import json

import pytest

from ebjr_det.core.errors import InvalidInput
from ebjr_det.evaluation.analysis import Analysis, Profile
from ebjr_det.evaluation.run_folder import check_same_pair


@pytest.mark.parametrize(
    ("given", "origin", "sentence", "brief"),
    [
        (
            (),
            "rate",
            "The threshold is the one that defers 30.00 % of these very images; no label chose it.",
            "of which no label chose the threshold.",
        ),
        (("--rates", "0.2,0.5"), "rate", "defers 20.00 % of these very images", "so many of these images."),
        (
            ("--threshold", "-2"),
            "given",
            "If it was picked by its quality on these images",
            "If the threshold was picked by its quality on these images, that quality flatters.",
        ),
    ],
)
def test_a_replay_says_where_its_threshold_comes_from(
    given, origin, sentence, brief, classifiers, tmp_path, command, capsys
):
    out = tmp_path / "run"
    args = [*classifiers(range(100), 0), "--bootstrap", 5, "--out", out, *given]
    capsys.readouterr()
    assert command("replay", "classification", *args, "--verbose") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert sentence in said
    assert brief in said
    assert "`ebjr-det calibrate` chooses on one part of the images and reports on the other" in said
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["threshold_from"], summary["picked_among"]) == (origin, 0)
    assert summary["interval_method"] == "basic bootstrap over images"
    picked, alone = (summary[f"score_minus_free_energy{key}"] for key in ("_picked", ""))
    assert picked.keys() == alone.keys()
    assert summary["deferral_rate_for_gap"]
    assert picked["free_energy"] == alone["free_energy"] == [0.0, 0.0]
    assert sentence.split(";")[0] in (out / "report.html").read_text().replace("\u00a0", " ")


ANALYSIS = Analysis("t", "free_energy", "-E", -2.0, Profile("a"), Profile("b"))


def test_an_analysis_of_an_earlier_version_says_nothing_of_its_choices():
    before = json.loads(ANALYSIS.to_json())
    del before["threshold_from"], before["picked_among"]
    again = Analysis.from_json(json.dumps(before))
    assert (again.threshold_from, again.picked_among) == ("", 0)


def test_runs_of_one_name_and_other_weights_are_no_runs_of_one_pair():
    first, second, unknown = (
        Analysis("t", "free_energy", "-E", -2.0, Profile("a", extras=extras), Profile("b"))
        for extras in ({"weights_sha256": "ab" * 32}, {"weights_sha256": "cd" * 32}, {})
    )
    check_same_pair(first, first)
    check_same_pair(first, unknown)
    with pytest.raises(InvalidInput, match="abababababab and cdcdcdcdcdcd as their student's weights"):
        check_same_pair(first, second)
