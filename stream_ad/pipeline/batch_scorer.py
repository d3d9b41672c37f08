"""The queued work of many series, done in rounds: their windows in common batches, profiles where the windows end."""

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
    """Does what series ask for, and tells what comes of it. unsaved: the profiles filled and not yet stored."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.unsaved_profiles: list[Profile] = []

    def run_pending(self, active: Sequence[Series], out: Outputs) -> None:
        """Does all queued work: windows of all series in common batches, profiles where the windows end."""
        while True:
            jobs: list[tuple[Series, ScoreTask]] = []
            windows: list[tuple[Session, Window]] = []
            for series in active:
                queue = series.windower.queue
                while queue and len(windows) < BATCH_WINDOWS:
                    work = queue[0]
                    if isinstance(work, FitTask):
                        if not any(job[0] is series for job in jobs):
                            self._fit(series, work)
                            continue
                        break
                    queue.pop(0)
                    session = self._session_for(series, work)
                    jobs.append((series, work))
                    windows.extend((session, window) for window in work.windows)
            if not jobs:
                return
            results = iter(self.scorer.score(windows) if windows else ())
            for series, work in jobs:
                series.emitter.begin(work)
                for place in range(len(work.windows)):
                    series.emitter.emit(series.scoring, work, place, next(results), out)

    def _session_for(self, series: Series, work: ScoreTask) -> Session:
        assert series.profile is not None
        assert series.session is not None
        if not work.fresh:
            return series.session
        session = self.scorer.open(series.profile.fitted.arrays)
        if work.kind != "provisional":
            series.session = session
        return session

    def _fit(self, series: Series, work: FitTask) -> None:
        assert series.windower.grid is not None
        profile = fit_profile(
            self.scorer,
            series.key.series,
            series.channels.names,
            work.history,
            step_ns=series.windower.grid.step_ns,
            origin="auto",
            capacity=series.config.windowing.memory,
            history_end_ns=work.history_end_ns,
        )
        self.unsaved_profiles.append(profile)
        series.use(profile)
        series.emitter.emitted.mark_all()
        series.windower.queue[0] = work.after
