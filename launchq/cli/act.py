"""`cancel`, `retry`, `resolve`, `pause` and `resume`: acting on jobs, batches and the account."""

from __future__ import annotations

from collections.abc import Callable

import click

from launchq.cli.options import json_option
from launchq.cli.output import Exit, account_line, note, print_json
from launchq.documents import account_document
from launchq.launcher import Launcher
from ledger.calls import Done

_SAID = {
    "cancelled": "cancelled",
    "requested": "a create call is under way, or being looked up, and ends as it ends; it is not tried again",
    "ended": "too late: it is {state}",
    "rearmed": "due again",
    "refused": "not retried: it is {state}",
}


@click.command("cancel")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def cancel_command(ids: tuple[str, ...], as_json: bool) -> Exit:
    """Take back jobs, or batches, that have not been sent. What is being sent ends as it ends.

    Exit code 2 where a job named by its own id had ended already.

    \b
    Example:
      launchq cancel nightly
    """
    with Launcher() as launcher:
        return _tell(ids, launcher.cancel(ids), too_late="ended", as_json=as_json)


@click.command("retry")
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@json_option
def retry_command(ids: tuple[str, ...], as_json: bool) -> Exit:
    """Make jobs due again that failed or were cancelled; of a batch, all such jobs.

    A batch that was held since too many of its jobs failed goes on. An uncertain job is never retried: its instance may
    exist. Look in the console, then use `launchq resolve`.
    Exit code 2 where a job named by its own id cannot be retried.

    \b
    Example:
      launchq retry nightly
    """
    with Launcher() as launcher:
        return _tell(ids, launcher.retry(ids), too_late="refused", as_json=as_json)


@click.command("resolve")
@click.argument("id_", metavar="ID")
@click.option("--created", metavar="INSTANCE_ID", help="This instance is the job's.")
@click.option("--not-created", is_flag=True, help="The job has created no instance.")
@click.option("--reason", metavar="TEXT", default="", help="Why; kept with the job.")
@json_option
def resolve_command(id_: str, created: str | None, not_created: bool, reason: str, as_json: bool) -> None:
    """Say what happened to an uncertain job, after a look in the console.

    With --created the job has succeeded; where the list of instances can be read, the instance must be in it. With
    --not-created it has failed; `launchq retry ID` then launches it again. Who said so, when and why is kept.

    \b
    Example:
      launchq resolve bc17eb4f-c15a-4748-b7df-149a73ab18c7 --created notebook-4a03ac59-3f53-4adc-9372-2efa05b7493e
    """
    if (created is None) is not not_created:
        raise click.UsageError("say either --created INSTANCE_ID or --not-created")
    with Launcher() as launcher:
        if created is not None:
            from launchq.evidence import must_exist

            if doubt := must_exist(launcher.settings, launcher.ledger, created):
                note(f"warning: {doubt}")
        job = launcher.resolve(id_, created=created, reason=reason)
    if as_json:
        print_json(job.document())
    else:
        click.echo(f"{job.id}\t{job.state}\t{job.instance_id or 'launchq retry launches it again'}")


@click.command("pause")
@click.argument("batches", nargs=-1, metavar="[BATCH...]")
@json_option
def pause_command(batches: tuple[str, ...], as_json: bool) -> None:
    """Send nothing more of BATCH or, without one, nothing at all, until `launchq resume`.

    Calls in flight end as they end, and what is not known of earlier ones is still looked up.

    \b
    Example:
      launchq pause nightly
    """
    _act_on(batches, Launcher.pause, "paused: `launchq {resume}` has it go on", as_json=as_json)


@click.command("resume")
@click.argument("batches", nargs=-1, metavar="[BATCH...]")
@json_option
def resume_command(batches: tuple[str, ...], as_json: bool) -> None:
    """Have BATCH or, without one, the account go on after `launchq pause`.

    A batch that was held since too many of its jobs failed goes on too, and may have as many failures again.

    \b
    Example:
      launchq resume nightly
    """
    _act_on(batches, Launcher.resume, "goes on", as_json=as_json)


def _act_on(
    batches: tuple[str, ...], act: Callable[[Launcher, str | None], None], what: str, *, as_json: bool
) -> None:
    """Act on each batch or, without one, on the account, and tell how it stands."""
    with Launcher() as launcher:
        for batch in batches or (None,):
            act(launcher, batch)
        account = launcher.account()
        documents = [launcher.batch(batch).document() for batch in batches] if as_json else []
    if as_json:
        print_json({"batches": documents, "account": account_document(account)["account"]})
        return
    for batch in batches or (None,):
        resume = "resume" if batch is None else f"resume {batch}"
        click.echo(f"{batch or 'account'}\t{what.format(resume=resume)}")
    if account.state != "open":
        note(f"account: {account_line(account)}")


def _tell(ids: tuple[str, ...], results: dict[str, Done], *, too_late: str, as_json: bool) -> Exit:
    if as_json:
        print_json(
            {
                "jobs": [
                    {"id": job_id, "state": done.state, "result": done.what}
                    for job_id, done in results.items()
                ]
            }
        )
    else:
        for job_id, done in results.items():
            click.echo(f"{job_id}\t{_SAID[done.what].format(state=done.state)}")
    uncertain = [
        job_id for job_id, done in results.items() if too_late == "refused" and done.state == "uncertain"
    ]
    if uncertain:
        note(
            f"{len(uncertain)} uncertain: the instance may exist. Look in the console, then tell what happened with "
            "`launchq resolve`"
        )
    return (
        Exit.BAD_INPUT if any(results[one].what == too_late for one in ids if one in results) else Exit.DONE
    )
