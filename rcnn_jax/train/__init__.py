"""Training.

The files in the order in which they explain each other:

    command      `train`: from an experiment and a folder to a result
    run          `Run`: what does not change from step to step, opened and checked before it begins
    run_folder   where its files lie; a folder may hold several runs
    lock         one process to a folder
    run_state    `RunState`: its progress besides arrays, stored beside every checkpoint
    resume       where it goes on: checkpoint, bundle or step 0
    start        the weights of step 0, and what is refused when a run goes on

    quantisation where fake quantisation begins: calibrated ranges, frozen batch norm

    schedules    learning rate by step
    optimizer    gradients to updates; penalties, frozen layers
    step         one update of one data shard: a pure function
    parallel     devices: replicas, shards, the mapped step
    ahead        compilation for further canvases on a thread

    loop         steps from milestone to milestone; signals and errors
    non_finite   the check of the losses, a step behind the device
    calendar     `Milestones`: when something is due
    milestones   what is done then, one function after the other
    validation   the evaluation of `evaluate`, on the weights of the moment

    sink         `MetricSink`: where all numbers go, in the chief process only
    writers      metrics.jsonl, TensorBoard, console, status.json
    events       TensorBoard's files
    tables       log lines and tables as text

    unfold_batch_norm    a command of its own: statistics for pretrained weights that have none
"""
