"""Alerts to people: outbox, rendering and the dispatcher that sends them. No service is named here."""
