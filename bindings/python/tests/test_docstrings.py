"""Every public name is documented, with an example that runs."""

import doctest
import importlib
import inspect

import pente
import pytest

np = pytest.importorskip("numpy")

MODULES = ["pente", "pente.lr_scheduler", "pente.sklearn"]
FIELDS = (property, type(pente.Layer.dtype), type(pente.Trainer.layer))  # whose example is their class's


def is_public(name):
    return not name.startswith("_")


def members():
    """(name, object, whether it wants an example) of all that is public."""
    for module_name in MODULES:
        try:
            module = importlib.import_module(module_name)
        except ImportError:  # of what an extra wants
            continue
        yield module_name, module, True
        for name in filter(is_public, module.__all__):
            thing = getattr(module, name)
            if not callable(thing):
                continue
            yield f"{module_name}.{name}", thing, True
            if not inspect.isclass(thing):
                continue
            kinds = [kind for kind in thing.__mro__ if kind.__module__.startswith("pente")]
            for member in filter(is_public, {name: None for kind in kinds for name in vars(kind)}):
                value = inspect.getattr_static(thing, member)
                if callable(value) or isinstance(value, (classmethod, staticmethod)):
                    yield f"{module_name}.{name}.{member}", value, True
                elif isinstance(value, FIELDS) and not inspect.ismemberdescriptor(value):
                    yield f"{module_name}.{name}.{member}", value, False


def as_seen(name):
    """What a user has of it: of a class method the method, for one."""
    thing = pente
    for part in name.removeprefix("pente").lstrip(".").split("."):
        thing = getattr(thing, part) if part else thing
    return thing


MEMBERS = list(members())


@pytest.mark.parametrize("name, thing, wants_example", MEMBERS, ids=[name for name, *_ in MEMBERS])
def test_docstring(name, thing, wants_example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where examples write their files
    text = inspect.getdoc(thing) or ""
    assert inspect.getdoc(as_seen(name)), f"{name} is not documented for its users"
    assert len(text) > 10, f"{name} is not documented"
    example = doctest.DocTestParser().get_doctest(text, {"pente": pente, "np": np}, name, None, None)
    assert example.examples or not wants_example, f"{name} has no example"
    output = []
    doctest.DocTestRunner().run(example, out=output.append)
    assert not output, "".join(output)
