"""mirror-agent: keeps containerd's and Docker's registry mirrors converged on one YAML file, for ever."""

__version__ = "0.1.0"
