"""Contracts between the pipeline and everything outside it, as Protocols; plug-ins implement these.

For example, a scorer is any object with the members of `Scorer`: it needs no base class and no registration here.
"""

from __future__ import annotations

from stream_ad.ports.clock import Clock
from stream_ad.ports.scorer import Fitted, Profile, ProfileStore, ScoredSlots, Scorer, Session, Window
from stream_ad.ports.sink import Notifier, RecordPublisher, Sink
from stream_ad.ports.source import (
    AssignmentListener,
    BrokerAdmin,
    Checkpoint,
    LagReader,
    PartitionLag,
    PushSource,
    RecordTail,
    Source,
    StateStore,
    SubscriptionStore,
    TopicReader,
)
from stream_ad.ports.store import AlertReader, DeadLetterReader, HistoryReader, ScoreReader, StatusReader

__all__ = [
    "AlertReader",
    "AssignmentListener",
    "BrokerAdmin",
    "Checkpoint",
    "Clock",
    "DeadLetterReader",
    "Fitted",
    "HistoryReader",
    "LagReader",
    "Notifier",
    "PartitionLag",
    "Profile",
    "ProfileStore",
    "PushSource",
    "RecordPublisher",
    "RecordTail",
    "ScoreReader",
    "ScoredSlots",
    "Scorer",
    "Session",
    "Sink",
    "Source",
    "StateStore",
    "StatusReader",
    "SubscriptionStore",
    "TopicReader",
    "Window",
]
