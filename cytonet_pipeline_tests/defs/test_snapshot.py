"""What the definitions are, compared with a recorded file, so that no change of them goes unseen in a review.

python -m cytonet_pipeline_tests.defs.test_snapshot        # record the present ones
"""

import json
from pathlib import Path

import dagster as dg

from cytonet_pipeline.definitions import build_defs
from cytonet_pipeline.defs.dagster_internals import assets_of, named_jobs

RECORDED = Path(__file__).with_name("definitions.json")


def snapshot(defs: dg.Definitions) -> dict[str, dict]:
    """Assets with all that a person sees of them, checks, jobs, sensors and schedules."""
    graph = defs.resolve_asset_graph()
    repository = defs.get_repository_def()
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    return {
        "assets": {
            name: {
                "group": node.group_name,
                "partitions": type(node.partitions_def).__name__ if node.partitions_def else None,
                "deps": sorted(key.to_user_string() for key in node.parent_keys),
                "code version": node.code_version,
                "kinds": sorted(node.kinds),
                "owners": list(node.owners),
                "automation": node.automation_condition.get_label() if node.automation_condition else None,
                "pools": sorted(node.pools or []),
            }
            for name, node in sorted(nodes.items())
        },
        "checks": {
            key.to_user_string(): {
                "blocking": graph.get(key).blocking,
                "partitions": type(graph.get(key).partitions_def).__name__ if graph.get(key).partitions_def else None,
            }
            for key in sorted(graph.asset_check_keys)
        },
        "jobs": {job.name: sorted(assets_of(job)) for job in sorted(named_jobs(defs), key=lambda job: job.name)},
        "sensors": {
            sensor.name: sensor.default_status.value
            for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
        },
        "schedules": {
            schedule.name: [schedule.job_name, schedule.cron_schedule, schedule.default_status.value]
            for schedule in repository.schedule_defs
        },
        "resources": sorted(defs.resources or {}),
    }


def test_the_definitions_are_the_recorded_ones():
    """A changed code version makes results stale, a changed key loses their history: neither happens in passing."""
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    present = json.loads(json.dumps(snapshot(build_defs())))

    for part, content in recorded.items():
        assert present[part] == content, f"{part} differ; if meant, record them: python -m {__spec__.name}"
    assert present.keys() == recorded.keys()


if __name__ == "__main__":
    RECORDED.write_text(json.dumps(snapshot(build_defs()), indent=2) + "\n", encoding="utf-8")
