"""Training.

The files in the order in which they explain each other:

    command      `train`: from an experiment and a folder to a result
    run          `Run`: what does not change from step to step, opened and checked before it begins
    run_folder   where its files lie; a folder may hold several runs
    lock         one process to a folder
    run_state    `RunState`: its progress besides arrays, stored beside every checkpoint
    resume       where it goes on: checkpoint, bundle or step 0
    start        the weights of step 0, and what is refused when a run goes on
    choose_batch the largest batch that a device holds, where the spec leaves the choice
    memory       the bytes of a step, from the compiled program
    retrain      advice before a pruned model is retrained

    teacher      the finished model that a run imitates
    quantisation where fake quantisation begins: calibrated ranges, frozen batch norm

    schedules    learning rate by step
    optimizer    gradients to updates; penalties, frozen layers
    loss_scale   the factor that keeps float16 gradients in range
    step         one update of one data shard: a pure function
    parallel     devices: replicas, shards, the mapped step
    sharding     weights and optimizer state divided among the devices
    ahead        compilation for further canvases on a thread

    loop         steps from milestone to milestone; signals and errors
    non_finite   the check of the losses, a step behind the device
    calendar     `Milestones`: when something is due
    milestones   what is done then, one function after the other
    validation   the evaluation of `evaluate`, on the weights of the moment

    time_plan    length and periods of a run that ends by the clock: arithmetic
    stopwatch    the times of its first steps
    course       steps are timed on, and the plan corrected
    planning     the moments at which the plan is made and corrected

    sink         `MetricSink`: where all numbers go, in the chief process only
    writers      metrics.jsonl, TensorBoard, console, status.json
    events       TensorBoard's files
    metrics_page metrics.html
    trackers     Weights & Biases, ClearML, MLflow
    tables       log lines and tables as text

    overfit              a few steps on a few images: whether a spec can learn at all
    unfold_batch_norm    a command of its own: statistics for pretrained weights that have none
"""
