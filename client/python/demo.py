"""Embeds six sentences on three topics and prints how similar they are. Run by ./run demo."""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import numpy.typing as npt

import bertrand

SENTENCES = [
    "A cat is sleeping on the warm windowsill.",
    "The kitten naps in the sunshine by the window.",
    "The central bank raised interest rates again.",
    "Borrowing money became more expensive this year.",
    "The rocket lifted off and reached orbit.",
    "Astronauts arrived at the space station.",
]


def similarity_table(similarities: npt.NDArray[np.float32]) -> str:
    """Returns the matrix [n, n] as lines of at most 80 columns, each row's best other marked *."""
    labels = [f"S{index + 1}" for index in range(len(similarities))]
    lines = ["      " + "".join(f"{label:>8} " for label in labels)]
    others = similarities - 2 * np.eye(len(similarities), dtype=np.float32)
    for label, row, best in zip(labels, similarities, others.argmax(axis=1), strict=True):
        marks = ("*" if index == best else " " for index in range(len(row)))
        cells = (f"{value:8.4f}{mark}" for value, mark in zip(row, marks, strict=True))
        lines.append(f"  {label:<4}" + "".join(cells))
    return "\n".join(line.rstrip() for line in lines)


def show(client: bertrand.Client, model: str) -> None:
    """Embeds SENTENCES and prints sentences, similarities and times. Raises bertrand.Error."""
    info = client.model(model)
    size = f"{info.num_layers} layers, {info.hidden_size} dimensions"
    print(f"\n{info.name} ({info.family}, {size}) on {', '.join(info.devices) or 'its device'}\n")
    # The first call also pays for the connection.
    client.embed(SENTENCES[:1], model=model, normalize=True)
    begin = time.perf_counter()
    result = client.embed(SENTENCES, model=model, normalize=True)
    wall_ms = (time.perf_counter() - begin) * 1e3

    for index, (sentence, stats) in enumerate(zip(SENTENCES, result.stats, strict=True)):
        print(f"  S{index + 1}  {sentence:<52} {stats.num_tokens:>3} tokens")
    print("\nCosine similarity (* the closest other sentence)\n")
    print(similarity_table(result.embeddings @ result.embeddings.T))
    timing = result.timing
    num_tokens = sum(stats.num_tokens for stats in result.stats)
    print(f"\n{len(SENTENCES)} sentences, {num_tokens} tokens in {wall_ms:.1f} ms at the client;")
    print(
        f"in the server {timing.total_us / 1e3:.1f} ms: tokenizing {timing.tokenize_us / 1e3:.1f}, "
        f"queue {timing.queue_us / 1e3:.1f}, inference {timing.inference_us / 1e3:.1f}\n"
    )


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", help="host:port; default $BERTRAND_ADDRESS, 127.0.0.1:50051")
    parser.add_argument("--model", default="", help="default: the server's default model")
    arguments = parser.parse_args()
    try:
        with bertrand.Client(arguments.address, timeout=60) as client:
            show(client, arguments.model)
    except bertrand.Error as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
