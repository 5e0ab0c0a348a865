"""LocalStack on one machine, without Docker: a server, a deployer, and the plugin that runs Lambda bootstraps.

``python -m switchyard_localstack serve`` starts LocalStack in host mode with the plugin inside;
``deploy`` and ``undeploy`` bring a SAM template to it. Nothing here is installed: the package is found by
``PYTHONPATH``, and the plugin registers itself (``plugin.py``) instead of relying on installed metadata.

Importing this package imports nothing of LocalStack, whose modules read the environment when they are loaded:
``settings.py`` must speak first.
"""
