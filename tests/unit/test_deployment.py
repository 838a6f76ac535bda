"""Files for Ray Serve, containers and Kubernetes name what there is."""

import ast
import re
import tomllib

import pytest
import yaml
from common import ROOT

import ebjr_det
from ebjr_det.api.serve import ClusterArguments
from ebjr_det.cli.serve import serve

DOCKER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def containers():
    """Each container's first arguments of `ebjr-det serve`, and its probes."""
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    image = ast.literal_eval(entry)
    for service in yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"].values():
        yield [*image[2:], *service["command"]], ()
    for name in ("two_tiers", "kserve"):
        for item in yaml.safe_load_all((DOCKER / "kubernetes" / f"{name}.yaml").read_text()):
            pod = item.get("spec", {}).get("template", item).get("spec", {})
            for container in pod.get("predictor", pod).get("containers", ()):
                probes = [container[key]["httpGet"]["path"] for key in container if key.endswith("Probe")]
                yield [*container.get("command", image)[2:], *container["args"]], probes


@pytest.mark.parametrize(("arguments", "probes"), list(containers()))
def test_containers_give_options_that_there_are_and_ask_addresses_that_are_served(arguments, probes):
    chosen = serve.make_context("serve", arguments).params
    assert chosen["host"] == "0.0.0.0"
    assert (chosen["tier"], chosen["teacher"]) in {("teacher", None), ("pair", chosen["teacher"])}
    served = (ROOT / "ebjr_det" / "serving" / "app.py").read_text()
    assert all(f'"{probe}"' in served for probe in probes)


def test_the_image_has_packages_of_the_project_and_no_torch():
    extras = PROJECT["optional-dependencies"]
    known = {*PROJECT["dependencies"], *extras["serve"], *extras["onnx"]}
    lines = (DOCKER / "requirements.txt").read_text().splitlines()
    needs = {line for line in lines if not line.startswith("#")}
    assert needs <= known
    assert not any(need.startswith(("torch", "timm", "effdet")) for need in needs)


def test_the_sample_of_ray_names_what_there_is():
    (application,) = yaml.safe_load((ROOT / "eval/serving/cluster.yaml").read_text())["applications"]
    module, name = application["import_path"].split(":")
    assert getattr(ebjr_det, name).__module__.startswith(module)
    ClusterArguments.model_validate(application["args"])
    tree = ast.parse((ROOT / "ebjr_det" / "serving" / "cluster.py").read_text())
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    names = [node.value for node in assigned if ast.unparse(node.targets[0]) == "(STUDENTS, TEACHERS)"]
    assert {item["name"] for item in application["deployments"]} == set(ast.literal_eval(names[0]))
