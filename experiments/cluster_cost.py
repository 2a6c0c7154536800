"""Cost of a job on more GPUs, on paper: from measured figures of one.

    python -m experiments.cluster_cost --step-ms 62 --images 8 --reduced-mb 177 --link-gbit 400

Weak scaling: every GPU keeps its batch. The gradients are added by a ring, which sends 2 (n - 1) / n of
them over the slowest link of each GPU; nothing is hidden behind the backward pass (the worst case), and
each of the 2 log2(n) phases of a tree of nodes waits once for the network.
"""

import argparse
import math


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step-ms", type=float, required=True, help="of one GPU alone")
    parser.add_argument("--images", type=int, required=True, help="of a GPU in a step")
    parser.add_argument("--reduced-mb", type=float, required=True, help="gradients and statistics")
    parser.add_argument("--link-gbit", type=float, default=200.0, help="per GPU between machines")
    parser.add_argument("--inside-gbit", type=float, default=3600.0, help="per GPU in a machine")
    parser.add_argument("--per-node", type=int, default=8, help="GPUs of a machine")
    parser.add_argument("--latency-us", type=float, default=20.0, help="of a message")
    parser.add_argument("--eval-images", type=int, default=5000)
    parser.add_argument("--eval-rate", type=float, default=100.0, help="images/s of one GPU")
    parser.add_argument("--metrics-s", type=float, default=30.0, help="of the metrics, done once")
    args = parser.parse_args()
    print("| GPUs | ms a step | images/s | efficiency | loader images/s a machine | evaluation s |")
    print("|---|---|---|---|---|---|")
    for count in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        step = step_ms(args, count)
        rate = count * args.images / step * 1e3
        machine = rate / max(count / args.per_node, 1)
        evaluation = args.eval_images / args.eval_rate / count + args.metrics_s
        print(
            f"| {count} | {step:.1f} | {rate:,.0f} | {args.step_ms / step:.0%} | {machine:,.0f} | "
            f"{evaluation:.0f} |"
        )


def step_ms(args: argparse.Namespace, count: int) -> float:
    """Returns the time of a step on so many GPUs."""
    if count == 1:
        return args.step_ms
    link = args.inside_gbit if count <= args.per_node else args.link_gbit
    sent = 2 * (count - 1) / count * args.reduced_mb * 8 / link  # MB * 8 / Gbit/s = ms
    return args.step_ms + sent + 2 * math.log2(count) * args.latency_us / 1e3


if __name__ == "__main__":
    main()
