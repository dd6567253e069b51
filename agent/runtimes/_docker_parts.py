"""The parts of Docker's plan put together: files before acts, each kind in the order in which it can be done."""

from __future__ import annotations

from dataclasses import replace

from agent.plan import FileAction, MakeDirectory, Memory, Plan, RemoveDirectory, RemoveFile, WriteFile
from agent.runtimes._docker_acts import Acts
from agent.runtimes._docker_file import FilePlan
from agent.runtimes._docker_trial import Step
from agent.runtimes._hosts_file import Part


def assembled(files: list[FilePlan], acts: Acts, remember: Memory | None) -> Plan:
    """The plan about daemon.json, made of what each file and the running daemon need."""
    actions = sorted((action for file in files for action in file.actions), key=_rank)
    return Plan(
        "docker",
        actions=(*actions, *acts.acts),
        claims=tuple(claim for file in files for claim in file.claims),
        releases=tuple(release for file in files for release in file.releases),
        conflicts=(*(conflict for file in files for conflict in file.conflicts), *acts.conflicts),
        deferred=acts.deferred,
        remember=remember,
    )


def with_parts(plan: Plan, parts: list[Part]) -> Plan:
    """The plan with what is to be done below certs.d: files before acts; a directory that both make is one action."""
    both = (*plan.file_actions, *(action for part in parts for action in part.actions))
    files = sorted({(type(action), action.path): action for action in both}.values(), key=_rank)
    return replace(
        plan,
        actions=(*files, *plan.acts),
        claims=(*plan.claims, *(claim for part in parts for claim in part.claims)),
        releases=(*plan.releases, *(release for part in parts for release in part.releases)),
        conflicts=(*plan.conflicts, *(conflict for part in parts for conflict in part.conflicts)),
    )


def _rank(action: FileAction) -> tuple[int, int]:
    """Directories, outermost first, writes, removals, directories innermost first."""
    depth = action.path.count("/")
    kind = (MakeDirectory, WriteFile, RemoveFile, RemoveDirectory).index(type(action))
    return kind, {MakeDirectory: depth, RemoveDirectory: -depth}.get(type(action), 0)


def stepped(step: Step, others: list[FilePlan]) -> Plan:
    """A plan that undoes what was on trial, or restores what was before."""
    main = FilePlan(actions=step.actions, conflicts=step.conflicts)
    return replace(assembled([main, *others], step.acts, step.memory), keeps=step.keeps, undoes=step.undoes)
