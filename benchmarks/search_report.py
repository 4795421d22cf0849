"""Table and picture of what `benchmarks.search` measured, and what follows from it for a million chunks."""

import json
from pathlib import Path
from typing import Any

ASKED = {"p50": 12.0, "p99": 40.0}
"""Milliseconds at 5,000 chunks on two cores, beyond the encoder."""
CASES = ("meaning", "words", "both", "both, top 50", "both, 20 files hidden", "both, filter on an attribute")

BEYOND = """
## Beyond what fits here

Milvus Lite compares every embedding and walks the postings of every word, so its time grows with the collection. In
proportion to the last row of the table, 1,000,000 chunks would take {million:.0f} ms of CPU for a search, and
{memory:.0f} GiB. Above 100,000 chunks, or where more than one process searches, `retriever.milvus.uri` names a server.

On paper, for 1,000,000 chunks of 384 numbers and 3.2 KB of columns (the text twice, once with its headings for BM25):

| index | memory | when |
|---|---|---|
{indexes}

Milvus' own sizing tool gives 1,000,000 x 128 numbers in HNSW (0.48 GiB raw) 1.1 GiB loaded and a query node of
1 core and 4 GB [2]; three times the numbers and BM25 beside them make that **a query node of 4 cores and 16 GB**,
and a second one for `replicas: 2` where searches must go on while a node is replaced [3]. The tenant is the
collection's partition key: a search reads one of `partitions: 16` [4]. None of this was measured: there is no Milvus
server here but Lite's own.

[1] https://milvus.io/docs/index.md (IVF_SQ8 "reduces disk, CPU, and GPU memory consumption by 70-75%")
[2] https://zilliz.com/sizing-tool
[3] https://milvus.io/docs/replica.md
[4] https://milvus.io/docs/use-partition-key.md
"""
INDEXES = (
    (
        "`HNSW`, {M: 16, efConstruction: 200}, {ef: 128}",
        "1.43 GiB and links of 0.12; 2 to 3 GiB loaded",
        "first choice",
    ),
    ("`IVF_SQ8`, {nlist: 4096}, {nprobe: 64}", "0.36 GiB, a quarter of the vectors [1]", "memory is dear"),
    ("`DISKANN`, {search_list: 100}", "some 0.3 GiB, the rest on NVMe", "from 10,000,000 chunks on"),
    ("sparse (BM25), always", "some 100 words of a chunk x 8 bytes: 0.75 GiB", "beside each of them"),
    ("columns, always", "3 GiB, or mapped from disk", "beside each of them"),
)


def write(path: Path) -> None:
    """`path` holds the JSON; the table and the picture go beside it."""
    report = json.loads(path.read_text())
    path.with_suffix(".md").write_text(page(report["machine"], report["rows"]))
    picture(report["rows"], path.with_suffix(".png"))


def page(machine: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    at = next((row for row in rows if row["chunks"] == 5_000), rows[0])
    lines = ["# Search", "", "Milliseconds of one search in Milvus Lite beyond the encoder, one caller.", ""]
    lines += [f"At {at['chunks']:,} chunks:", "", "| figure | measured | asked at most | |", "|---|---|---|---|"]
    for figure, most in ASKED.items():
        for case in ("both", "both, top 50"):
            found = at["ms"][case][figure]
            lines.append(f"| {case}, {figure} | {found} | {most} | {'kept' if found <= most else 'missed'} |")
    idle, busy = at["ms"]["both"]["p50"], at["ms"]["during ingestion"]["p50"]
    lines.append(
        f"| during ingestion, p50 against idle | {busy / idle:.2f} | 2 | {'kept' if busy <= 2 * idle else 'missed'} |"
    )
    lines += ["", "p50 / p99 / CPU of the process, ms:", ""]
    lines += [f"| chunks | {' | '.join(CASES)} | during ingestion |", f"|---|{'---|' * (len(CASES) + 1)}"]
    for row in rows:
        cells = [row["ms"][case] for case in (*CASES, "during ingestion")]
        told = " | ".join(f"{cell['p50']} / {cell['p99']} / {cell['cpu']}" for cell in cells)
        lines.append(f"| {row['chunks']:,} | {told} |")
    lines += ["", "| chunks | written per second | CPU of writing one, ms | resident, MiB |", "|---|---|---|---|"]
    lines += [
        f"| {row['chunks']:,} | {row['written_per_second']} | {row['write_cpu_ms']} | {row['resident_mib']:.0f} |"
        for row in rows
    ]
    opened = f"The last of them opened in {rows[-1]['opened_in_s']} s."
    lines += ["", f"{opened} Resident is what the collection added to the process."]
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines += [
        "",
        f"Machine: {facts}. CPU beside the wall clock tells what a busy machine added.",
        "",
        "![growth](search.png)",
    ]
    return "\n".join(lines) + "\n" + beyond(rows)


def beyond(rows: list[dict[str, Any]]) -> str:
    last = rows[-1]
    scale = 1_000_000 / last["chunks"]
    return BEYOND.format(
        million=last["ms"]["both"]["cpu"] * scale,
        memory=last["resident_mib"] * scale / 1024,
        indexes="\n".join(f"| {' | '.join(cells)} |" for cells in INDEXES),
    )


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (times, sizes) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    chunks = [row["chunks"] for row in rows]
    for case in ("meaning", "words", "both", "both, top 50"):
        (line,) = times.plot(chunks, [row["ms"][case]["p50"] for row in rows], marker="o", label=f"{case}, p50")
        if case == "both":
            p99 = [row["ms"][case]["p99"] for row in rows]
            times.plot(chunks, p99, linestyle="--", color=line.get_color(), label="both, p99")
    times.plot(chunks, [row["ms"]["both"]["cpu"] for row in rows], ":", color="black", label="both, CPU")
    times.plot(5_000, ASKED["p50"], marker="_", markersize=18, color="black", linestyle="", label="asked: p50 at 5,000")
    times.set(xscale="log", yscale="log", xlabel="chunks", ylabel="ms", title="One search beyond the encoder")
    times.set_xticks(chunks, [f"{count:,}" for count in chunks])
    times.minorticks_off()
    ticks = [1, 2, 5, 10, 20, 50, 100, 200]
    times.set_yticks(ticks, [str(tick) for tick in ticks])
    times.grid(alpha=0.3)
    times.legend(fontsize=8)
    sizes.plot(chunks, [row["resident_mib"] for row in rows], marker="o", color="tab:purple")
    sizes.set(xlabel="chunks", ylabel="MiB", title="Memory that the collection adds", ylim=(0, None))
    sizes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
