"""`millrace`: the command line, one client of the HTTP API for those who send work, and the operator's hand on the log.

To add a command, write a module here with `add_to(app)` and name it in `__main__.MODULES`:

    def add_to(app: typer.Typer) -> None:
        app.command()(erase)            # or app.add_typer(group, name="webhooks") for commands below a word

    def erase(ctx: typer.Context, tenant: str, json: Json = False) -> None:
        \"\"\"One line that `millrace --help` shows.\"\"\"
        answer = session(ctx).client().post("/erasures", {"tenant": tenant})      # HTTP, as the key's tenant
        addresses = stack.addresses(os.environ)                                  # or Kafka, S3, Redis themselves
        show(ctx, answer, lambda: "what a person reads")

What every command keeps:
- stdout holds what was asked for and nothing else; progress, remarks and faults go to stderr (`terminal.say`).
- `--json` prints one JSON document, or one a line where there are many; names are the API's, or stable names of ours.
- Colours and moving parts only where stdout and stderr are terminals (`terminal.LIVELY`).
- Exit status 0: done. 1: what was asked for failed (`Fault`, or `typer.Exit(1)`). 2: the command line makes no sense.
  130: interrupted.
- Imports that take long (Kafka, boto3, openai) stand inside the command: the others must not pay for them.
"""
