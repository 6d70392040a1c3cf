"""The plan of an example deployment: topics as declared, connections closed, roles small, somebody woken up."""

from __future__ import annotations

import json

import pytest

from schemas import topics


@pytest.fixture(scope="module")
def plan(cloud):
    return cloud.plan("platform")


def test_topics_are_those_of_the_code(plan):
    work = [topics.work(pool, lane) for pool in ("r1", "distill") for lane in topics.LANES]
    wanted = {t.name: t for t in (*topics.FIXED, topics.replies("gateway"), topics.intake("acme"), *work)}
    planned = {t["name"]: t for t in plan.resources("aws_msk_topic").values()}
    assert set(planned) == set(wanted)
    for name, topic in wanted.items():
        assert planned[name]["partition_count"] == topic.partitions
        assert planned[name]["replication_factor"] == 3
        assert json.loads(planned[name]["configs"]) == topic.settings()


def test_brokers_take_nobody_without_credentials_or_tls(plan):
    (cluster,) = plan.resources("aws_msk_cluster").values()
    client = cluster["client_authentication"][0]
    assert client["unauthenticated"] is False and client["sasl"][0]["scram"] is True
    transit = cluster["encryption_info"][0]["encryption_in_transit"][0]
    assert (transit["client_broker"], transit["in_cluster"]) == ("TLS", True)
    (settings,) = plan.resources("aws_msk_configuration").values()
    properties = dict(line.split("=") for line in settings["server_properties"].split())
    assert properties["allow.everyone.if.no.acl.found"] == "false"
    assert (properties["min.insync.replicas"], properties["unclean.leader.election.enable"]) == ("2", "false")


def test_secrets_are_made_empty(plan):
    names = {s["name"] for s in plan.resources("aws_secretsmanager_secret").values()}
    assert "AmazonMSK_millrace_producer-acme" in names and all(n.startswith("AmazonMSK_") for n in names)
    assert not plan.resources("aws_secretsmanager_secret_version")


def test_gpus_are_spot_come_from_nothing_and_are_for_workers_only(plan):
    groups = plan.resources("aws_eks_node_group")
    gpu, steady = groups["gpu"], groups["steady"]
    assert gpu["capacity_type"] == "SPOT" and steady["capacity_type"] == "ON_DEMAND"
    assert gpu["scaling_config"][0]["min_size"] == 0 and len(gpu["instance_types"]) > 1
    assert gpu["taint"][0]["effect"] == "NO_SCHEDULE" and not steady["taint"]


def documents(plan):
    """Every policy of an identity, by address."""
    for kind in ("aws_iam_role_policy", "aws_iam_policy"):
        for address, planned in plan.resources(kind).items():
            yield f"{kind}.{address} {planned.get('name')}", json.loads(planned["policy"])


def test_no_role_may_do_everything_or_reach_everything(plan):
    seen = 0
    for address, document in documents(plan):
        for statement in document["Statement"]:
            seen += 1
            assert statement["Effect"] == "Allow" and "NotAction" not in statement, address
            assert not [a for a in statement["Action"] if "*" in a], address
            if "*" in statement["Resource"]:
                # The one action that knows no resources: grants decide what it opens.
                assert statement["Action"] == ["lakeformation:GetDataAccess"], address
    assert seen > 30


def test_a_process_reaches_its_own_folders_and_credentials_only(plan):
    policies = {a: p for a, p in documents(plan) if a.startswith("aws_iam_role_policy.this[")}

    def resources(process, sid):
        (document,) = [p for a, p in policies.items() if a.startswith(f'aws_iam_role_policy.this["{process}"]')]
        return [r for s in document["Statement"] if s["Sid"] == sid for r in s["Resource"]]

    bucket = "arn:aws:s3:::acme-millrace"
    assert f"{bucket}/usage/*" in resources("lake", "Objects")
    assert resources("admission", "Objects") == [f"{bucket}/flink/admission/*"]
    assert f"{bucket}/files/*" in resources("gateway", "Objects")
    assert not [r for r in resources("gateway", "Objects") if "usage" in r or "flink" in r]
    assert resources("worker", "Objects") == [] and len(resources("worker", "Credentials")) == 1


def test_a_connector_writes_its_topics_only(plan):
    (document,) = [p for a, p in documents(plan) if 'this["mqtt"]' in a]
    (write,) = [s for s in document["Statement"] if s["Sid"] == "Write"]
    assert write["Resource"] == ["arn:aws:kafka:eu-central-1:111122223333:topic/millrace/0a1b/intake.acme"]


def test_no_group_lets_the_internet_in(plan):
    rules = plan.resources("aws_vpc_security_group_ingress_rule").values()
    assert rules and not [r for r in rules if r["cidr_ipv4"] or r["cidr_ipv6"]]


def test_every_alarm_wakes_somebody(plan):
    alarms = plan.resources("aws_cloudwatch_metric_alarm")
    assert {"kafka-offline", "kafka-disk-1", "kafka-disk-3", "lake-lag", "redis-memory", "athena-millrace"} <= {
        a.removeprefix('this["').removesuffix('"]') for a in alarms
    }
    assert all(a["alarm_actions"] for a in alarms.values())
    (budget,) = plan.resources("aws_budgets_budget").values()
    assert {n["notification_type"] for n in budget["notification"]} == {"ACTUAL", "FORECASTED"}


def test_flink_runs_both_jobs_from_the_image(cluster):
    jobs = {a: p["manifest"] for a, p in cluster.plan("jobs").resources("kubernetes_manifest").items()}
    assert set(jobs) == {'job["admission"]', 'job["lake"]'}
    for name in ("admission", "lake"):
        spec = jobs[f'job["{name}"]']["spec"]
        assert spec["job"]["args"][-1] == f"/millrace/streams/{name}_job.py"
        assert (
            spec["flinkConfiguration"]["execution.checkpointing.dir"] == f"s3://acme-millrace/flink/{name}/checkpoints"
        )
        assert spec["serviceAccount"] == name
