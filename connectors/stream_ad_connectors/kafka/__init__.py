"""Everything that speaks to Kafka. Wire formats are in stream_ad.serde."""
