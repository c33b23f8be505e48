"""Every path inside a run folder and inside the folder of runs. Other rooms ask here; none spells a path itself.

runs/                                   the folder of runs (``--runs-dir``)
  .arrays/<time>/  .code/<time>/        job arrays; copies of users' code
  .workflows/<name>/<time>.json         submitted workflows with the runs of each step
  .pruned/<run id>-<hex>/<name>/        runs that `saman prune` is deleting
  .forecasts/forecasts.jsonl            forecasts made before the runs, and their outcomes
  <experiment or study>/                also holds study.json and study.lock
    <run id>/                           RunPaths
      experiment.yaml | script.yaml     what runs, resolved
      notebook.json                     node, port and token of a Jupyter server, for its owner only
      secrets.json                      its private values, for its owner only
      events.jsonl  state.json          what happened; the state that follows from it
      summary.json  energy.json         the result; joules, where a meter exists
      tracking.json  figures/           what trackers have received; curves
      attempts/<n>/                     Attempt: command, placement, provenance, logs, telemetry
      checkpoints/  export/             checkpoints; ExportPaths: the exported model
      control/                          stop requests and locks
      slurm/                            SlurmPaths: job script, cluster file, log of the job
"""
