import pytest

from gloam.errors import StoreError
from gloam.training.translators.monitor import Monitor
from gloam.workflows.reports.training import REPORT_FILE, write_training_report
from tests.training.translators.runs import small_config, train, write_images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train(small_config(write_images(folder / "images")), folder / "run")
    return folder / "run"


def test_one_page_with_samples_curves_and_facts(run):
    page = write_training_report(run)
    text = page.read_text(encoding="utf-8")
    assert page == run / REPORT_FILE
    assert text.count("data:image/jpeg;base64,") == 3  # after 0, 3 and 6 steps
    assert text.index("after 6 steps") < text.index("after 0 steps")
    assert "6 of 6 steps" in text
    assert "cycle_L1" in text
    assert 'class="line s1"' in text
    assert "options.cycle_weight" in text
    assert "<script" not in text
    assert text.count("http") == 0


def test_an_unfinished_run_has_a_page_too(tmp_path):
    monitor = Monitor(tmp_path, 0, tensorboard=False)
    for step in range(1, 1000):
        monitor.losses(step, 1, step, 2e-4, {"a_<b>": -step, "a_c": 1e-9})
    text = write_training_report(tmp_path).read_text(encoding="utf-8")
    assert "Unfinished: 999 steps so far." in text
    assert "a_&lt;b&gt;" in text
    assert "<b>" not in text
    assert len(text) < 40_000  # long curves are thinned


def test_a_folder_without_a_run_is_refused(tmp_path, run):
    with pytest.raises(StoreError, match="holds no training run"):
        write_training_report(tmp_path)
    for content in ("{", "[]"):
        (tmp_path / "train.json").write_text(content)
        with pytest.raises(StoreError, match=r"train\.json"):
            write_training_report(tmp_path)
