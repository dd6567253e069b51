"""A hundred hostile or broken configurations, as data, and the one course that all of them run.

`case` has the course; the other modules have tables: what people write (`wishes`), what others have left for Docker
(`docker_json`, `docker_unit`) and for containerd (`containerd_toml`, `hosts_trees`), and what a node can do (`nodes`).
"""
