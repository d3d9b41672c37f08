"""Runs the queued tasks of many series: windows of all series in common batches, fits in between."""

from __future__ import annotations

from collections.abc import Sequence

from stream_ad.detection.profiles import fit_profile
from stream_ad.pipeline.series import Series
from stream_ad.ports import Profile, Scorer, Session, Window
from stream_ad.records import Outputs
from stream_ad.windowing.tasks import FitTask, ScoreTask

__all__ = ["BatchScorer"]

BATCH_WINDOWS = 1024  # windows scored in one batch: bounds memory, changes no result


class BatchScorer:
    """Scores and emits the ready windows of many series. unsaved_profiles: fitted, but not stored yet."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.unsaved_profiles: list[Profile] = []

    def run_pending(self, active: Sequence[Series], out: Outputs) -> None:
        """Runs every queued task of the `active` series, each series' tasks in order; adds the results to `out`."""
        while True:
            tasks: list[tuple[Series, ScoreTask]] = []
            windows: list[tuple[Session, Window]] = []
            for series in active:
                queue = series.windower.queue
                while queue and len(windows) < BATCH_WINDOWS:
                    task = queue[0]
                    if isinstance(task, FitTask):
                        if any(one is series for one, _ in tasks):
                            break  # windows before the fit are emitted first, with the present profile
                        self._fit(series, task)
                        continue
                    queue.pop(0)
                    session = self._session_for(series, task)
                    tasks.append((series, task))
                    windows.extend((session, window) for window in task.windows)
            if not tasks:
                return
            results = iter(self.scorer.score(windows) if windows else ())
            for series, task in tasks:
                series.emitter.begin(task)
                for number in range(len(task.windows)):
                    series.emitter.emit(series.scoring, task, number, next(results), out)

    def _session_for(self, series: Series, task: ScoreTask) -> Session:
        assert series.profile is not None
        assert series.session is not None
        if not task.fresh:
            return series.session
        session = self.scorer.open(series.profile.fitted.arrays)
        if task.kind != "provisional":
            series.session = session
        return session

    def _fit(self, series: Series, task: FitTask) -> None:
        assert series.windower.grid is not None
        profile = fit_profile(
            self.scorer,
            series.key.series,
            series.channels.names,
            task.history,
            step_ns=series.windower.grid.step_ns,
            origin="auto",
            capacity=series.config.windowing.memory,
            history_end_ns=task.history_end_ns,
        )
        self.unsaved_profiles.append(profile)
        series.use_profile(profile)
        series.emitter.emitted.set_all_stale()
        series.windower.queue[0] = task.after
