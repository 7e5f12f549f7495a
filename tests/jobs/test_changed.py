"""What has changed between the plan and the run is not trained under the plan's name."""

from __future__ import annotations

import pytest
from support import make_dataset, protocol

from mtlbench.errors import UserError
from mtlbench.jobs import attempt as attempts
from mtlbench.jobs.job import Watcher
from mtlbench.jobs.plan import plan
from mtlbench.plugins import load_plugins
from mtlbench.specs import parse_methods

load_plugins()


def test_what_has_changed_since_the_plan_is_not_trained(tmp_path, monkeypatch):
    (job,) = plan(parse_methods("shared"), (0,), protocol(), make_dataset(), "fp32", tmp_path)
    data = make_dataset()
    data.facts["fingerprint"] = "another"
    monkeypatch.setattr(attempts, "dataset_of", lambda job: data)
    with pytest.raises(UserError, match=r"shared, seed 0: since the runs were planned.*data: made up there, another"):
        attempts.attempt(job, Watcher(), lambda: False)
    assert not job.folder.exists()
