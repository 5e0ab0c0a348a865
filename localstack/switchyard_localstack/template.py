"""Reading a SAM template, and pointing its functions to uploaded code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml


class TemplateError(Exception):
    """A template that cannot be read, or a function in it that names no code."""


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: ``!Sub x`` is read as ``{"Fn::Sub": x}``."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)
# Without this, `Version: 2012-10-17` is read as a date, which JSON cannot say.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: loader.construct_scalar(node))


def read(path: Path) -> dict[str, Any]:
    """The template with long forms only.

    Raises TemplateError when the file cannot be read or is no template.
    """
    try:
        content = yaml.load(path.read_text(), _Loader)
    except OSError as e:
        raise TemplateError(f"cannot read the template {path}: {e.strerror}") from e
    except yaml.YAMLError as e:
        raise TemplateError(f"the template {path} is not valid YAML: {e}") from e
    if not isinstance(content, dict) or not isinstance(content.get("Resources"), dict):
        raise TemplateError(f"the template {path} has no Resources")
    return content


def functions(template: dict[str, Any]) -> dict[str, str]:
    """Logical id to artifact name, for each function whose code is a local path.

    The name is that of the binary that ``sam build`` would make (``Metadata.BuildProperties.Binary``), or else the last
    part of ``CodeUri``.

    Raises TemplateError for a function without code.
    """
    default = template.get("Globals", {}).get("Function", {}).get("CodeUri")
    found = {}
    for logical_id, resource in template["Resources"].items():
        if resource.get("Type") != "AWS::Serverless::Function":
            continue
        properties = resource.get("Properties", {})
        code = properties.get("CodeUri", default)
        if code is None and "InlineCode" not in properties:
            raise TemplateError(f"the function {logical_id} has no CodeUri")
        if isinstance(code, str) and not code.startswith("s3://"):
            binary = resource.get("Metadata", {}).get("BuildProperties", {}).get("Binary")
            name = binary or Path(code).name
            if name in ("", ".", ".."):
                raise TemplateError(f"the CodeUri of {logical_id}, {code!r}, names no artifact")
            found[logical_id] = name
    return found


def with_code(template: dict[str, Any], locate: Callable[[str], tuple[str, str]]) -> dict[str, Any]:
    """The template with ``CodeUri`` replaced by the bucket and key that `locate` gives for an artifact name."""
    resources = dict(template["Resources"])
    for logical_id, name in functions(template).items():
        bucket, key = locate(name)
        resource = resources[logical_id]
        properties = {**resource.get("Properties", {}), "CodeUri": {"Bucket": bucket, "Key": key}}
        # Says how `sam build` makes the code, which is made already.
        metadata = {
            k: v for k, v in resource.get("Metadata", {}).items() if k not in ("BuildMethod", "BuildProperties")
        }
        resources[logical_id] = {**resource, "Properties": properties, "Metadata": metadata}
    return {**template, "Resources": resources}


def reserved_concurrency(template: dict[str, Any], parameters: dict[str, str]) -> dict[str, int]:
    """Logical id to reserved concurrency, for each function that has one."""
    reserved = {}
    for logical_id, resource in template["Resources"].items():
        if resource.get("Type") in ("AWS::Serverless::Function", "AWS::Lambda::Function"):
            value = resource.get("Properties", {}).get("ReservedConcurrentExecutions")
            if isinstance(value, dict) and "Ref" in value:
                declared = template.get("Parameters", {}).get(value["Ref"], {})
                value = parameters.get(value["Ref"], declared.get("Default"))
            if isinstance(value, int | str) and str(value).isdigit():
                reserved[logical_id] = int(value)
    return reserved
