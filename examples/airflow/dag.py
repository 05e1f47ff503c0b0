"""A DAG inside a fence: one task of KubernetesExecutor, and one pod of KubernetesPodOperator."""

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import dag, task
from kubernetes.client import models as k8s


@task
def collect():
    """Runs in a pod that the scheduler makes of pod-template.yaml."""


# Every pod of the operator inside this fence: the label, the account, and what restricted pods need.
FENCED = {
    "namespace": "ai-airflow",
    "service_account_name": "triage",
    "labels": {"ringfence.dev/workflow": "triage"},
    "security_context": k8s.V1PodSecurityContext(
        run_as_non_root=True, run_as_user=1000, seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault")
    ),
    "container_security_context": k8s.V1SecurityContext(
        allow_privilege_escalation=False, capabilities=k8s.V1Capabilities(drop=["ALL"])
    ),
    "container_resources": k8s.V1ResourceRequirements(
        requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "256Mi"}
    ),
    # XCom is read by exec into a side-car that comes from another registry: return results elsewhere.
    "do_xcom_push": False,
}


@dag(dag_id="triage", schedule=None)
def triage():
    collect() >> KubernetesPodOperator(task_id="classify", image="registry.example.com/finance/triage:1.4", **FENCED)


triage()
