"""What a worker knows of the jobs that come next, where others claim of the same ones."""

from __future__ import annotations

from pathlib import Path

from batchrunner.core.admission import Cap
from batchrunner.engine.claiming import Claiming
from batchrunner.engine.foresight import Foresight
from batchrunner.engine.live import LiveRun
from batchrunner.engine.planning import AHEAD, Planner
from batchrunner.engine.token_estimates import TokenEstimates
from batchrunner.models import ModelId, RunId
from batchrunner.store.claims import claim
from batchrunner.store.database import Database
from batchrunner.store.records import Ask, LaneClaim
from batchrunner.store.runs import driver
from tests.unit.live_scene import LiveScene
from tests.unit.stored import NOW, database, lines, load


class Worker:
    """One that plans for certain jobs, since tokens are limited."""

    def __init__(self, db: Database, run_id: RunId, model: ModelId) -> None:
        self._db = db
        scene = LiveScene(Cap("tpm", 1_000_000, None, "flag"))
        self.run: LiveRun = scene.run(run_id)
        (lane,) = self.run.lanes.values()
        lane.model_id = model
        self.run.lanes = {model: lane}
        claiming = Claiming(
            ledger=scene.ledger,
            clock=scene.clock,
            tokens=TokenEstimates(),
            gate=scene.gate,
            hand_over=lambda _: None,
            give_up=lambda _: None,
            ended=lambda _: None,
        )
        self._foresight = Foresight(Planner(scene.ledger), claiming, scene.clock)

    def begin(self) -> list[int]:
        """Begin a turn; return which jobs are to come next."""
        glances = self._foresight.glances([self.run])
        with self._db.read() as connection:
            found = self._foresight.read(driver(connection), glances)
        self._foresight.take(glances, found)
        (lane,) = self.run.lanes.values()
        return [int(job.job_id) for job in lane.ahead or ()]


def test_a_turn_plans_for_no_job_that_another_has(tmp_path: Path) -> None:
    """It begins with those that still wait, in their order, and with the next ones where they are few."""
    db = database(tmp_path)
    run_id = load(db, lines(200))
    with db.read() as connection:
        model = connection.exec_driver_sql("SELECT DISTINCT model_id FROM job").scalar()
        ids = [row[0] for row in connection.exec_driver_sql("SELECT id FROM job ORDER BY id", ())]
    worker = Worker(db, run_id, model)

    def others_claim(n: int) -> None:
        with db.write() as connection:
            claimed, _ = claim(driver(connection), Ask(run_id, model, n), NOW, [NOW] * n)
        assert isinstance(claimed, LaneClaim)

    assert worker.begin() == ids[:AHEAD]
    others_claim(10)
    assert worker.begin() == ids[10:AHEAD]
    with db.write() as connection:
        # Another had it, and put it off.
        driver(connection).execute(
            "UPDATE job SET not_before = ? WHERE id = ?", (NOW + 60_000, ids[10])
        )
    assert worker.begin() == ids[11:AHEAD]
    others_claim(30)
    assert worker.begin() == ids[41 : 41 + AHEAD]
