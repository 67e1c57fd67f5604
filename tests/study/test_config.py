import pytest

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy
from pellucid.evaluation import CONTROLS, METRICS
from pellucid.study import METHOD_PANEL, METRIC_PANEL, read_config
from pellucid.study.toml import spelt_toml


def refusal(path):
    with pytest.raises(BadStudy) as caught:
        read_config(path)
    text = str(caught.value)
    assert "\n" not in text
    return text


def line_of(path, text):
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_a_misspelt_key_names_the_line_and_the_near_match(changed):
    path = changed(("metrics =", "metrcs ="))
    said = refusal(path)
    assert f"study.toml:{line_of(path, 'metrcs')}:" in said
    assert "'metrcs'" in said
    assert "did you mean metrics" in said


def test_a_misspelt_table_names_the_line_and_the_near_match(changed):
    path = changed(("[evaluate]", "[evalute]"))
    said = refusal(path)
    assert f"study.toml:{line_of(path, '[evalute]')}:" in said
    assert "evaluate" in said


def test_a_misspelt_key_that_is_needed_is_told_as_misspelt(changed):
    assert "did you mean path" in refusal(changed(('path = "data"', 'pth = "data"')))


def test_a_value_of_the_wrong_kind_names_the_key_and_what_was_given(changed):
    path = changed(("seed = 3", 'seed = "three"'))
    said = refusal(path)
    assert "study.toml:1: seed does not fit" in said
    assert "'three'" in said


def test_a_wrong_entry_of_a_list_names_its_key(changed):
    assert "images.size" in refusal(changed(('path = "data"', 'path = "data"\nsize = [4, 0]')))


def test_an_unknown_method_names_its_own_line(changed):
    path = changed(('["saliency", ', '[\n"saliency",\n"salency",\n'))
    said = refusal(path)
    assert f"study.toml:{line_of(path, 'salency')}:" in said
    assert "did you mean saliency" in said


def test_an_unknown_setting_of_a_method_is_told(changed):
    assert "no setting 'stps'" in refusal(changed(('steps=3)", "gradcam', 'stps=3)", "gradcam')))


def test_an_unknown_metric_names_its_line(changed):
    path = changed(('"sparseness"', '"sparsness"'))
    assert f"study.toml:{line_of(path, 'sparsness')}:" in refusal(path)


def test_a_study_without_a_model_and_one_with_two_are_refused(changed):
    assert "there is no model" in refusal(changed(('weights = "net.safetensors"', "")))
    assert "not both" in refusal(changed(("[model]", '[fit]\nepochs = 1\n[model]\nweights = "x"')))


def test_mean_without_std_is_refused(changed):
    assert "mean and std" in refusal(changed(("[model]", "[model]\nmean = [0.5]")))


def test_paths_start_at_the_study_file(bench):
    config, _ = read_config(bench / "study.toml")
    assert config.images.path == bench / "data"
    assert config.model.weights == bench / "net.safetensors"


def test_the_data_folder_can_be_given_apart(bench, tmp_path):
    config, _ = read_config(bench / "study.toml", data=tmp_path / "elsewhere")
    assert config.images.path == tmp_path / "elsewhere"


def test_methods_are_spelt_canonically_and_once(changed):
    path = changed(('["saliency", ', "[\"saliency\", 'saliency()', "))
    assert read_config(path)[0].explain.methods == ["saliency", "integrated_gradients(steps=3)", "gradcam"]


def test_the_resolved_file_reads_back_to_the_same_choices(bench, tmp_path):
    config, _ = read_config(bench / "study.toml")
    (tmp_path / "again.toml").write_text(spelt_toml(config.resolved()))
    assert read_config(tmp_path / "again.toml")[0] == config


def test_the_panels_hold_what_they_promise():
    assert len(METHOD_PANEL) >= 10
    assert len(METRIC_PANEL) >= 12
    assert not set(CONTROLS) & set(METHOD_PANEL)


@pytest.mark.parametrize("text", [*METHOD_PANEL, *CONTROLS])
def test_every_method_of_the_panel_is_known_in_its_canonical_text(text):
    assert str(METHODS.parse(text)) == text


@pytest.mark.parametrize("text", METRIC_PANEL)
def test_every_metric_of_the_panel_is_known_in_its_canonical_text(text):
    assert str(METRICS.parse(text)) == text
