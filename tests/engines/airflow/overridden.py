"""What whoever writes a DAG may try: a task whose pod is overridden."""

from airflow.sdk import dag, task
from kubernetes.client import models as k8s

OVERRIDE = k8s.V1Pod(spec=k8s.V1PodSpec(service_account_name="default", containers=[k8s.V1Container(name="base")]))


@task(executor_config={"pod_override": OVERRIDE})
def override():
    """Names an account of its own over what the template says."""


@dag(dag_id="overridden", schedule=None)
def overridden():
    override()


overridden()
