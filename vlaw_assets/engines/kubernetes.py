"""Workers as pods of Kubernetes, by dagster-k8s's Pipes client (`pip install vlaw[kubernetes]`).

    [kubernetes]
    image = "registry/vlaw:1"        # with vlaw at this revision
    claim = "lake"                   # PersistentVolumeClaim that holds the lake
    mount = "/lab"                   # where: the lake's path is the same in pods and for the run
    namespace = "vlaw"
    context = ""                     # of the kubeconfig; in a cluster none is needed
    limits = { "nvidia.com/gpu" = "1", memory = "64Gi" }
    pod = { node_selector = { pool = "gpu" } }    # more of the pod's spec

Tested against rendered manifests and a false API server: no cluster was at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vlaw_assets.engines import pipes
from vlaw_assets.engines.elsewhere import AGAIN, Call
from vlaw_assets.engines.settings import Settings, options_of
from vlaw_models.errors import VlawError

LABEL = "vlaw-worker"


@dataclass(frozen=True)
class KubernetesOptions:
    """The table [kubernetes]."""

    image: str
    claim: str
    mount: str
    namespace: str = "default"
    context: str = ""
    kubeconfig: str = ""
    limits: Mapping[str, str] = field(default_factory=dict)
    pod: Mapping[str, Any] = field(default_factory=dict)
    poll_s: float = 5.0


class Kubernetes:
    """`vlaw_assets.engines.worker` as the container of a pod."""

    queues = True

    def __init__(self, settings: Settings):
        self._options: KubernetesOptions = options_of(settings, KubernetesOptions)
        self._python = settings.python or "python3"

    def check(self) -> None:
        try:
            import kubernetes
            from dagster_k8s import PipesK8sClient
        except ImportError as error:
            raise VlawError(
                f"engine 'kubernetes' is not installed: {error}",
                where="VLAW_ENGINE",
                remedy="pip install 'vlaw[kubernetes]'",
            ) from error
        self._client, self._api = PipesK8sClient, kubernetes
        try:
            self._core().list_namespaced_pod(self._options.namespace, limit=1, _request_timeout=20)
        except (kubernetes.config.ConfigException, kubernetes.client.ApiException, OSError) as error:
            raise self._unreachable(error) from error
        except Exception as error:  # urllib3's own, which the client does not wrap
            if not type(error).__module__.startswith("urllib3"):
                raise
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> VlawError:
        return VlawError(
            f"Kubernetes cannot be reached: {str(error)[:300]}",
            where=f"namespace {self._options.namespace}, context {self._options.context or 'of the kubeconfig'}",
            remedy="See that kubectl get pods answers there, or mend the table [kubernetes].",
        )

    def _core(self) -> Any:
        pipes_client = self._pipes_client()
        pipes_client._load_k8s_config()  # noqa: SLF001 (as it will be read for the worker)
        return self._api.client.CoreV1Api()

    def _pipes_client(self, **more: Any) -> Any:
        return self._client(
            kubeconfig_file=self._options.kubeconfig or None,
            kube_context=self._options.context or None,
            poll_interval=self._options.poll_s,
            **more,
        )

    def pod(self, call: Call) -> dict[str, Any]:
        """What `PipesK8sClient.run` is given for a worker: image, command, metadata and spec of its pod."""
        given = {key: value for key, value in self._options.pod.items() if key not in ("volumes", "containers")}
        container = {
            "name": "worker",
            "volume_mounts": [{"name": "lake", "mount_path": self._options.mount}],
            "resources": {"limits": dict(self._options.limits)},
        }
        return {
            "image": self._options.image,
            "command": [self._python, "-m", pipes.MODULE],
            "namespace": self._options.namespace,
            "env": {name: value for name, value in pipes.environment().items() if name != "PYTHONPATH"},
            "base_pod_meta": {"labels": {LABEL: call.folder.name}},
            "base_pod_spec": {
                **given,
                "restart_policy": "Never",
                "containers": [container],
                "volumes": [
                    *self._options.pod.get("volumes", []),
                    {"name": "lake", "persistent_volume_claim": {"claim_name": self._options.claim}},
                ],
            },
        }

    def run(self, context: Any, call: Call) -> None:
        client = self._pipes_client(context_injector=pipes.injector(call), message_reader=pipes.reader(call))

        def end() -> None:
            self._core().delete_collection_namespaced_pod(
                self._options.namespace, label_selector=f"{LABEL}={call.folder.name}", grace_period_seconds=0
            )

        with pipes.ended_by(call, end):
            try:
                client.run(context=context, extras=pipes.extras(call), **self.pod(call))
            except Exception as error:
                if call.stop.is_set():
                    return
                known = type(error).__module__.split(".")[0] in ("dagster", "dagster_k8s", "kubernetes", "urllib3")
                if not known:
                    raise
                raise VlawError(
                    f"a worker died: {str(error)[:300]}",
                    where=f"pod with the label {LABEL}={call.folder.name}, namespace {self._options.namespace}",
                    remedy=AGAIN,
                ) from error
