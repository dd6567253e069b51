"""The keys of daemon.json and the JSON type that Docker wants for each. With another type dockerd does not start.

Source: moby daemon/config/config.go and config_linux.go (20.10 to 29); keys that older or newer versions do not know
are here too, since an unknown key is only a warning.
"""

from __future__ import annotations

from enum import Enum


class JsonType(Enum):
    """What a key takes; the value is pydantic's name for the mistake."""

    STRING = "string_type"
    BOOLEAN = "bool_type"
    INTEGER = "int_type"
    LIST = "list_type"
    MAPPING = "dict_type"
    STRINGS = "list of strings"
    STRING_MAP = "mapping of strings"
    BOOLEAN_MAP = "mapping of booleans"
    SIZE = "string or number"


def _keys(kind: JsonType, words: str) -> dict[str, JsonType]:
    return dict.fromkeys(words.split(), kind)


DAEMON_KEYS: dict[str, JsonType] = {
    **_keys(
        JsonType.STRING,
        "api-cors-header bip bip6 bridge bridge-accept-fwmark cgroup-parent containerd containerd-namespace "
        "containerd-plugin-namespace data-root default-cgroupns-mode default-gateway default-gateway-v6 default-init "
        "default-ipc-mode default-runtime exec-root firewall-backend fixed-cidr fixed-cidr-v6 group host-gateway-ip "
        "init-path ip log-driver log-format log-level metrics-addr pidfile resolv-conf seccomp-profile "
        "storage-driver swarm-default-advertise-addr tlscacert tlscert tlskey userland-proxy-path userns-remap",
    ),
    **_keys(
        JsonType.BOOLEAN,
        "allow-direct-routing cri-containerd debug experimental icc init ip-forward ip-forward-no-drop ip-masq "
        "ip6tables iptables ipv6 live-restore no-new-privileges raw-logs rootless selinux-enabled tls tlsverify "
        "userland-proxy",
    ),
    **_keys(
        JsonType.INTEGER,
        "cpu-rt-period cpu-rt-runtime default-stop-timeout max-concurrent-downloads max-concurrent-uploads "
        "max-download-attempts mtu network-control-plane-mtu network-diagnostic-port oom-score-adjust "
        "shutdown-timeout swarm-raft-election-tick swarm-raft-heartbeat-tick",
    ),
    **_keys(
        JsonType.STRINGS,
        "allow-nondistributable-artifacts authorization-plugins cdi-spec-dirs dns dns-opts dns-search exec-opts hosts "
        "host-gateway-ips labels node-generic-resources storage-opts",
    ),
    **_keys(JsonType.LIST, "default-address-pools"),
    **_keys(JsonType.MAPPING, "builder default-network-opts default-ulimits nri-opts runtimes"),
    **_keys(JsonType.STRING_MAP, "log-opts proxies"),
    **_keys(JsonType.BOOLEAN_MAP, "features"),
    **_keys(JsonType.SIZE, "default-shm-size"),
}
