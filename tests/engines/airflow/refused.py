"""What people try beside examples/airflow/dag.py, each a task that Ringfence refuses."""

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import dag
from dag import FENCED

IMAGE = "registry.example.com/finance/triage:1.4"


@dag(dag_id="refused", schedule=None)
def refused():
    KubernetesPodOperator(task_id="xcom", image=IMAGE, **{**FENCED, "do_xcom_push": True})
    KubernetesPodOperator(task_id="image", image="docker.io/library/busybox:1", **FENCED)
    KubernetesPodOperator(task_id="account", image=IMAGE, **{**FENCED, "service_account_name": "default"})
    KubernetesPodOperator(task_id="unlabelled", image=IMAGE, **{**FENCED, "labels": {}})


refused()
