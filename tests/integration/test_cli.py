"""The command `prefect-tracktor`: written files, used folders, errors."""

import os
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from cyclopts import App
from prefect.settings import PREFECT_API_URL, temporary_settings

import prefect_tracktor
from prefect_tracktor import EmailTemplate, Words
from prefect_tracktor.cli import app, main
from prefect_tracktor.errors import InvalidInput
from prefect_tracktor.messages.words import KINDS, LANGUAGES
from prefect_tracktor.sandbox import API_KEY, UUID
from prefect_tracktor.sandbox.__main__ import app as sandbox_app
from prefect_tracktor.setup.environment import read
from prefect_tracktor.setup.project import built_in, folder_of, write_project
from tests.support.programs import PROJECT, free_port

COMMANDS = [name for name in app if not name.startswith("-")]


def all_commands(parent: App = app, path: str = "") -> Iterator[tuple[str, App]]:
    """Return all commands with options, also those of `receive` and `ledger`."""
    for name in parent:
        if not name.startswith("-"):
            command = parent[name]
            if command.default_command:
                yield f"{path}{name}", command
            yield from all_commands(command, f"{path}{name} ")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def output(capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return the printed text, without line breaks."""
    return lambda: " ".join("".join(capsys.readouterr()).replace("│", "").split())


def forget_project_modules() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] in ("flows", "blocks")]
    return {name: sys.modules.pop(name) for name in names}


@pytest.fixture
def own_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project from `init`, not imported yet, as in a new process; Prefect is unreachable."""
    list(write_project(project))
    known = forget_project_modules()
    monkeypatch.syspath_prepend(project)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield project
    forget_project_modules()
    sys.modules.update(known)


def python(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run a module in a working directory, as from a shell."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "PREFECT_API_URL": "http://127.0.0.1:9/api"},
        capture_output=True,
        text=True,
        check=False,
    )


def files_of(folder: Path) -> dict[str, str]:
    found = [*folder.glob("flows/*.py"), *folder.glob("blocks/*.py")]
    return {str(file.relative_to(folder)): file.read_text() for file in found}


# ---- help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text(command: str, output: Callable[[], str]) -> None:
    assert main([command, "--help"]) == 0
    help_text = output()
    assert f"prefect-tracktor {command}" in help_text.partition(".")[0]
    assert len(help_text) > 80


@pytest.mark.parametrize("command", dict(all_commands()))
def test_every_option_of_every_command_has_help(command: str) -> None:
    # the app of the sandbox itself, because its servers may not be installed
    app = sandbox_app if command == "sandbox" else dict(all_commands())[command]
    arguments = app.assemble_argument_collection(parse_docstring=True)
    assert [a.name for a in arguments if a.show and not a.parameter.help] == []


def test_the_command_without_arguments_lists_all_commands(output: Callable[[], str]) -> None:
    assert main([]) == 0
    listed = output()
    assert [name for name in COMMANDS if f" {name} " not in listed] == []
    assert "To see them work, run demo; to set up your own shop, run init." in listed


def test_version_prints_the_version_of_the_package(output: Callable[[], str]) -> None:
    assert main(["--version"]) == 0
    assert output() == prefect_tracktor.__version__


# ---- init


def test_init_writes_flows_and_blocks_and_prints_the_next_steps(
    project: Path, output: Callable[[], str]
) -> None:
    assert main(["init"]) == 0
    assert files_of(project) == files_of(PROJECT)
    text = output()
    assert all(f"wrote {name}" in text for name in files_of(PROJECT))
    assert "Next: prefect-tracktor blocks" in text
    assert sorted(path.name for path in project.iterdir()) == ["blocks", "flows"]


def test_init_keeps_existing_files_and_writes_the_others(
    project: Path, output: Callable[[], str]
) -> None:
    own = "# of my own\n"
    (project / "flows").mkdir()
    (project / "flows" / "shops.py").write_text(own)
    (project / "flows" / "my_pipeline.py").write_text(own)
    assert main(["init"]) == 0
    assert "kept flows/shops.py" in output()
    written = files_of(PROJECT)
    mine = {"flows/shops.py": own, "flows/my_pipeline.py": own}
    assert files_of(project) == written | mine
    assert main(["init"]) == 0
    assert "wrote" not in output()
    assert files_of(project) == written | mine


def test_init_writes_into_a_named_folder(project: Path, output: Callable[[], str]) -> None:
    assert main(["init", "a/shop"]) == 0
    assert files_of(project / "a/shop") == files_of(PROJECT)
    assert "Next: cd a/shop prefect-tracktor blocks" in output()


@pytest.mark.parametrize("in_the_way", ["flows", "flows/shops.py"])
def test_init_names_a_path_that_is_in_the_way(project: Path, in_the_way: str) -> None:
    if in_the_way == "flows":
        (project / "flows").write_text("a list of flows")
    else:
        (project / in_the_way).mkdir(parents=True)
    with pytest.raises(InvalidInput, match=r"cannot be written .*: move what is in its way"):
        list(write_project(project))


def test_init_does_not_write_through_a_broken_link(project: Path) -> None:
    (project / "flows").mkdir()
    (project / "flows" / "shops.py").symlink_to(project / "elsewhere.py")
    with pytest.raises(InvalidInput, match=r"shops\.py cannot be written"):
        list(write_project(project))
    assert not (project / "elsewhere.py").exists()


# ---- folders


def test_the_built_in_folders_are_in_the_wheel_or_beside_the_package(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout" / "prefect_tracktor"
    wheel = tmp_path / "site-packages" / "prefect_tracktor"
    checkout.mkdir(parents=True)
    (wheel / "project").mkdir(parents=True)
    assert built_in(checkout) == tmp_path / "checkout"
    assert built_in(wheel) == wheel / "project"
    assert (built_in() / "flows" / "shops.py").is_file()


def test_local_folders_take_precedence_over_the_built_in_ones(project: Path) -> None:
    assert folder_of("flows") == built_in() / "flows"
    # many projects have a folder of this name; it is used only with a list of shops
    (project / "flows").mkdir()
    assert folder_of("flows") == built_in() / "flows"
    list(write_project(project))
    assert folder_of("flows") == project / "flows"
    assert folder_of("blocks") == project / "blocks"


def test_a_users_own_flow_file_is_found(project: Path) -> None:
    list(write_project(project))
    (project / "flows" / "of_my_own.py").write_text("def deployment(shop): ...\n")
    result = python("flows", "serve", "--only", "nothing", cwd=project)
    assert result.returncode == 2
    assert "of_my_own" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_edited_list_of_blocks_is_used(project: Path) -> None:
    list(write_project(project))
    (project / "blocks" / "documents.py").write_text("DOCUMENTS = ()\n")
    result = python("blocks", "--only", "tracktor-credentials", cwd=project)
    assert result.returncode == 2
    assert "unknown block in blocks/documents.py: 'tracktor-credentials'" in result.stderr


def test_serve_prints_that_it_uses_the_built_in_deployments(
    own_project: Path, output: Callable[[], str]
) -> None:
    (own_project / "flows" / "of_my_own.py").write_text("def deployment(shop): ...\n")
    assert main(["serve", "--only", "nothing"]) == 2
    assert "of_my_own" in (text := output())
    assert "built-in" not in text
    for file in (own_project / "flows").iterdir():
        file.rename(file.with_suffix(".away"))
    assert main(["serve"]) == 2
    assert "these are the built-in deployments" in output()


# ---- errors


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["serve", "--wrong"], "Unknown option"),
        (["srve"], 'Did you mean "serve"?'),
        (["deploy"], "parameter --work-pool requires an argument"),
        (["serve", "--only", "expired"], "choose from advance, exceptions, expired_exceptions"),
        (["serve", "--shop", "berlin"], "unknown shop in flows/shops.py: 'berlin'; choose"),
        (["blocks", "--name", "My Shop"], "use lowercase letters and digits"),
        (["blocks", "--only", "credentials"], "choose from tracktor-credentials,"),
        (["blocks", "--env-file", "absent.env"], "there is no file absent.env; give its path"),
        (["receive", "--port", "many"], "--port"),
        (["receive"], "set TRACKTOR_UUID; prefect-tracktor receive --help"),
    ],
)
def test_an_invalid_argument_is_refused_with_a_remedy(
    arguments: list[str], problem: str, output: Callable[[], str], project: Path
) -> None:
    assert main(arguments) == 2
    assert problem in output()


def test_receive_reads_the_time_zone_of_the_api(
    output: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKTOR_UUID", UUID)
    monkeypatch.setenv("TRACKTOR_API_KEY", API_KEY)
    assert main(["receive", "template"]) == 0
    monkeypatch.setenv("TRACKTOR_API_TIME_ZONE", "Mars")
    assert main(["receive", "template"]) == 2
    assert "time_zone" in output()


@pytest.mark.parametrize(
    "line",
    ["TRACKTOR_SENDER: me@shop.example", "TRACKTOR_READ_ONLY", 'TRACKTOR_API_KEY="s3cret', "=x"],
)
@pytest.mark.parametrize("command", [["blocks"], ["serve"]])
def test_an_invalid_line_of_the_env_file_is_named(
    command: list[str], line: str, project: Path, output: Callable[[], str]
) -> None:
    (project / ".env").write_text(f"# settings\nSMTP_PORT=25\n{line}\nSMTP_HOST=a.example\n")
    assert main(command) == 2
    text = output()
    assert ".env, line 3 is not NAME=value: write an equals sign" in text
    assert "s3cret" not in text


def test_an_env_file_from_windows_is_read(project: Path) -> None:
    file = project / ".env"
    file.write_bytes(b'\xef\xbb\xbfSMTP_HOST = "a.example"\r\nexport SMTP_PORT=25 # mine\r\n')
    assert read(file, {}) == {"SMTP_HOST": "a.example", "SMTP_PORT": "25"}


def test_the_sandbox_does_not_overwrite_a_shops_env_file(
    project: Path, output: Callable[[], str]
) -> None:
    mine = "TRACKTOR_API_KEY=of-my-own\n"
    (project / ".env").write_text(mine)
    assert status_of(["sandbox", "--orders", "3", "--env-file", ".env"]) == 2
    assert "--env-file: .env is there already, and no sandbox wrote it" in output()
    assert (project / ".env").read_text() == mine


@pytest.mark.parametrize("option", ["--port", "--smtp-port", "--csv", "--mailbox", "--env-file"])
def test_the_sandbox_names_a_port_or_file_that_it_cannot_use(
    option: str, project: Path, output: Callable[[], str]
) -> None:
    (project / "a_file").touch()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        value = str(taken.getsockname()[1]) if "port" in option else "a_file/here"
        assert status_of(["sandbox", "--orders", "3", option, value]) == 2
    text = output()
    assert (f"{option}: port {value}" if "port" in option else "a_file/here") in text
    assert "cannot be used" in text


def test_preview_names_a_folder_that_it_cannot_write_to(
    prefect_api: None, project: Path, output: Callable[[], str]
) -> None:
    (project / "a_file").touch()
    assert main(["preview", "--no-open", "--out", "a_file/here"]) == 2
    assert "a_file/here/default cannot be used (Not a directory)" in output()


def status_of(arguments: list[str]) -> int | str | None:
    """Return the exit status of a command that may exit the interpreter."""
    try:
        return main(arguments)
    except SystemExit as end:
        return end.code


RULE = "from prefect_tracktor import NotificationRule\nNotificationRule(name='late', when=['lost'])"


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("flows/mine.py", "def deployment(shop:", "line 1: '(' was never closed; correct it"),
        (
            "flows/mine.py",
            "import no_such_package",
            "line 1: No module named 'no_such_package'; install what it needs, or",
        ),
        ("flows/mine.py", "from prefect import nothing", "line 1: cannot import"),
        ("flows/mine.py", "\n\nRULES = [Rule()]", "line 3: name 'Rule' is not defined; "),
        ("flows/mine.py", RULE, "line 2: when: 'lost' is not a condition"),
        ("flows/shops.py", "def shops():\n    return [Shop('a')]", "line 2: name 'Shop' is not"),
        ("flows/shops.py", "SHOPS = []", "has no attribute 'shops'"),
        ("blocks/documents.py", "BLOCKS = []", "has no attribute 'DOCUMENTS'"),
        ("blocks/documents.py", "import os\nos.path(1)", "line 2: 'module' object is not callable"),
    ],
)
def test_a_mistake_in_an_edited_file_is_located_without_a_traceback(
    own_project: Path, file: str, source: str, problem: str, output: Callable[[], str]
) -> None:
    (own_project / file).write_text(source)
    assert main(["serve"]) == 2
    assert file in (text := output())
    assert problem in text
    assert "Traceback" not in text


@pytest.mark.parametrize("command", [["serve"], ["deploy", "--work-pool", "shop"], ["blocks"]])
def test_an_invalid_prefect_api_url_is_refused(
    command: list[str], output: Callable[[], str], project: Path
) -> None:
    with temporary_settings({PREFECT_API_URL: "127.0.0.1:4200/api"}):
        assert main(command) == 2
    assert "PREFECT_API_URL must be an address such as http://127.0.0.1:4200/api" in output()


@pytest.mark.parametrize("command", [["serve"], ["deploy", "--work-pool", "shop"], ["blocks"]])
def test_an_unreachable_prefect_api_is_named(
    command: list[str], output: Callable[[], str], project: Path
) -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert main(command) == 2
    assert "Prefect's API does not answer at http://127.0.0.1:" in (text := output())
    assert "start the server with prefect server start" in text


@pytest.mark.parametrize("command", [["serve"], ["deploy", "--work-pool", "shop"]])
def test_serve_and_deploy_refuse_prefects_temporary_server(
    command: list[str], output: Callable[[], str], project: Path
) -> None:
    with temporary_settings({PREFECT_API_URL: None}):
        assert main(command) == 2
    assert "run prefect server start in another shell" in output()


# ---- preview


def test_preview_writes_each_message_in_each_language(
    prefect_api: None, project: Path, output: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    EmailTemplate(words=[Words(language="de", about="delivered", subject="Da <ist> es")]).save(
        "to-be-seen", overwrite=True
    )
    fails = EmailTemplate(subject="{{ 1 // 0 }}")
    fails.save("to-fail", overwrite=True)
    assert main(["preview"]) == 0
    assert "wrote tracktor-preview/index.html" in output()
    assert opened == [(project / "tracktor-preview/index.html").as_uri()]
    index = (project / "tracktor-preview/index.html").read_text("utf-8")
    for template in ("default", "to-be-seen"):
        files = {file.name for file in (project / "tracktor-preview" / template).iterdir()}
        assert files == {f"{about}-{of}.html" for about in KINDS for of in LANGUAGES}
        assert all(f'href="{template}/{name}"' in index for name in files)
    assert "Da &lt;ist&gt; es</a>" in index
    assert "subject fails for order 1001: line 1: ZeroDivisionError" in index
    assert "Hello <bdi>" in (project / "tracktor-preview/default/expired-en.html").read_text()


def test_preview_shows_the_default_template_without_prefect(
    project: Path, output: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webbrowser, "open", pytest.fail)
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_port()}/api"}):
        assert main(["preview", "--no-open", "--out", "here"]) == 0
    text = output()
    assert "Without your saved templates: Prefect's API does not answer" in text
    assert (project / "here/default/delivered-fr.html").is_file()


def test_the_error_for_a_missing_extra_names_the_command_to_install_it(
    monkeypatch: pytest.MonkeyPatch, output: Callable[[], str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("prefect_tracktor.sandbox")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiosmtpd", None)
    assert main(["sandbox", "--orders", "3"]) == 2
    assert "the sandbox needs aiosmtpd: pip install" in output()
