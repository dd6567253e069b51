"""Desired states for tests: valid ones, and what is said about invalid ones."""

from agent import desired
from agent.desired import load
from agent.desired.models import Section
from agent.errors import DesiredStateError, Problem

MODELS = tuple(Section.__subclasses__())
"""Every mapping of the desired state whose keys are ours."""

DESIGN = """\
version: 1
registries:
  docker.io:
    mirrors:
      - https://uw9bnv9c.mirror.aliyuncs.com
      - url: https://harbor.example.cn/v2/dockerhub-proxy
        override_path: true
        capabilities: [pull, resolve]     # the default
        ca: /etc/ssl/certs/harbor.pem     # a path or a list of paths
        client: [{cert: /etc/ssl/node.pem, key: /etc/ssl/node.key}]
        skip_verify: false
        header: {X-Node: [a]}             # secret values through header_file
        dial_timeout: 3s
    server: https://registry-1.docker.io
    fallback: true
  ghcr.io: {mirrors: [https://ghcr.m.daocloud.io]}
  harbor-local.kubernets.cn: {insecure: true}
  "registry.lan:5000": {plain_http: true}
  _default: {mirrors: [http://127.0.0.1:30020]}
containerd:
  manage: auto
  config: /etc/containerd/config.toml
  certs_dir: /etc/containerd/certs.d
  restart: allow
docker:
  manage: auto
  daemon_json: /etc/docker/daemon.json
  settings:
    log-driver: json-file
    log-opts: {max-size: 500m, max-file: "3"}
  on_change: auto
  restart_if: always
  restart_window: "02:00-05:00"
health: {enabled: false}
"""
"""The example of DESIGN 2.2, word for word but for its comments."""


def problems_of(text: str | bytes) -> tuple[Problem, ...]:
    """What is wrong with a text; () if it is valid."""
    try:
        load(text.encode() if isinstance(text, str) else text)
    except DesiredStateError as error:
        return error.problems
    return ()


def said(text: str | bytes) -> list[str]:
    """What is wrong, one line each, as `line:column: key.path: message`."""
    return [_line(problem) for problem in problems_of(text)]


def warned(text: str) -> list[str]:
    """What is doubtful about a valid text, one line each."""
    return [_line(problem) for problem in desired.lint(text.encode())]


def mirror(fields: str) -> str:
    """A desired state with one mirror in flow style: `url: https://a.example, ca: /x`."""
    return f"version: 1\nregistries:\n  r.example:\n    mirrors:\n      - {{{fields}}}\n"


def _line(problem: Problem) -> str:
    path = f"{problem.key_path}: " if problem.key_path else ""
    return f"{problem.line}:{problem.column}: {path}{problem.message}"
