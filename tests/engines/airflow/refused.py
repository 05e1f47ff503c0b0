"""What people try beside examples/airflow/dag.py, each a task that Ringfence refuses."""

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import dag, task
from dag import FENCED
from kubernetes.client import models as k8s

IMAGE = "registry.example.com/finance/triage:1.4"
OVERRIDE = k8s.V1Pod(spec=k8s.V1PodSpec(service_account_name="default", containers=[k8s.V1Container(name="base")]))


@dag(dag_id="refused", schedule=None)
def refused():
    KubernetesPodOperator(task_id="xcom", image=IMAGE, **{**FENCED, "do_xcom_push": True})
    KubernetesPodOperator(task_id="image", image="docker.io/library/busybox:1", **FENCED)
    KubernetesPodOperator(task_id="account", image=IMAGE, **{**FENCED, "service_account_name": "default"})
    KubernetesPodOperator(task_id="unlabelled", image=IMAGE, **{**FENCED, "labels": {}})


@task(executor_config={"pod_override": OVERRIDE})
def override():
    """Names an account of its own over what the template says."""


@dag(dag_id="overridden", schedule=None)
def overridden():
    override()


refused()
overridden()
