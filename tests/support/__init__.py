"""Library that tests and benchmarks share.

services/          real Kafka, InfluxDB, Chromium and fault proxies (`python -m tests.support.services build|run`)
drills/            faults against running workers, compared with an undisturbed run
hostile/           fuzzed records, accounted for one by one
jobs.py            a user's job: config, topic, bucket, workers, run by the console script
kafka_helpers.py   topics filled and read, a source with a tracker
sink_samples.py    scores, alerts and statuses for sinks, and what readers must return
service_store.py   contents of a store for the HTTP service
schemas.py         Avro and Protobuf schemas
pipeline_runs.py   logs, settings and profiles for a pipeline with the fake scorer
fakes.py           small scorer, sessions and profiles for unit tests
docker_files.py    docker/ as data
paths.py           places in the checkout
"""
