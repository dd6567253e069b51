"""What is in the packages, looked at without installing them. How they behave on a node: tests/node/test_package.py."""
