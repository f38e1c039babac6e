"""Tables, charts and correlations of benchmarks/selection.py, from the pieces that are there."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import replace

import numpy as np

from hybridattn import files, rankings, select, stats


def found(out, sets, shared, trained) -> dict:
    """Results on disk by (layers, seed), seed None before step 2, of these settings but for recall tasks."""
    results = {}
    for layers, seed in sets:
        name = "-".join(map(str, layers)) or "none"
        for key, path, settings in (
            ((layers, None), out / "zero-shot" / f"{name}.json", shared),
            ((layers, seed), out / "distilled" / f"{name}-seed{seed}.json", {**trained, "seed": seed}),
        ):
            cell = json.loads(path.read_text()) if path.exists() else {"settings": {}}
            wanted = {n: value for n, value in settings.items() if n not in ("tasks", "recall_n")}
            if all(cell["settings"].get(n) == value for n, value in wanted.items()):
                results[key] = cell
    return results


def groups(rows) -> dict:
    """Rows by (selector with its text, k): one for each seed."""
    by = defaultdict(list)
    for row in rows:
        by[row["choice"].label, row["choice"].k].append(row)
    return dict(by)


def numbers(group, results, args) -> dict | None:
    """Means over the seeds of a selector: {when: {"kl_512": .., "ppl_512": .., "recall": ..}}."""
    found_ = {}
    for when in ("zero-shot", "distilled"):
        before = when == "zero-shot"
        own = [row for row in group if before or row["choice"].seed < args.distilled_seeds]
        keys = [(row["layers"], None if before else row["order"]) for row in own]
        cells = [results[key] for key in keys if key in results]
        if not cells or len(cells) < len(own):
            continue  # a mean over some of the seeds is another number
        mean = {}
        for length in (n for n in map(str, args.lengths) if n in cells[0]["lengths"]):
            for key in ("kl", "ppl"):
                values = [cell["lengths"][length][key] for cell in cells]
                mean[f"{key}_{length}"] = float(np.mean(values))
                mean[f"{key}_{length}_spread"] = (
                    float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
                )
            mean[f"per_sequence_{length}"] = [cell["lengths"][length]["per_sequence"] for cell in cells]
        for task in (t for t in args.tasks if t in cells[0]["recall"]):
            mean[f"recall_{task}"] = float(np.mean([cell["recall"][task]["accuracy"] for cell in cells]))
        found_[when] = mean
    return found_ or None


def markdown(rows, results, args) -> str:
    """One table for each budget, the smallest KL after step 2 (else before it) first."""
    lines = []
    for k in args.budgets:
        body = []
        for (label, size), group in groups(rows).items():
            if size != k:
                continue
            cells = numbers(group, results, args)
            forwards = np.mean([row["scores"].cost.get("forwards", 0.0) for row in group])
            seconds = np.mean([row["scores"].seconds for row in group])
            layers = " / ".join(sorted({" ".join(map(str, row["layers"])) for row in group}))
            last = (cells or {}).get("distilled") or (cells or {}).get("zero-shot")
            rank = last[f"kl_{args.lengths[0]}"] if last else math.inf
            body.append((rank, label, cells, forwards, seconds, layers))
        stages = [w for w in ("zero-shot", "distilled") if any(w in (row[2] or {}) for row in body)]
        columns = [f"{kind}_{n}" for kind in ("kl", "ppl") for n in args.lengths]
        columns += [f"recall_{task}" for task in args.tasks]
        shown = [
            (stage, column)
            for stage in stages
            for column in columns
            if any(column in (row[2] or {}).get(stage, {}) for row in body)
        ]
        heads = [f"{column.replace('_', ' ', 1)}, {stage}" for stage, column in shown]
        lines += ["", f"### {k} softmax layers", ""]
        lines.append("| selector | " + " | ".join([*heads, "forwards", "seconds", "layers"]) + " |")
        lines.append("| --- |" + " ---: |" * (len(heads) + 2) + " --- |")
        for _, label, cells, forwards, seconds, layers in sorted(body, key=lambda row: row[:2]):
            row = [_cell((cells or {}).get(stage, {}), column) for stage, column in shown]
            lines.append("| " + " | ".join([label, *row, f"{forwards:.1f}", f"{seconds:.0f}", layers]) + " |")
    return "\n".join(lines)


def pairs(rows, results, args) -> str:
    """For each budget: how much farther each set is than those of the KL scores, in pairs at the first
    length, after step 2 or, where there was none, before it; and whether step 2 keeps the order.

    A window counts once, with its mean over the seeds: they share the held-out text. +- is the standard error
    over windows, so it says nothing of other seeds.
    """
    lines, length = [], args.lengths[0]
    for k in args.budgets:
        found = {label: numbers(group, results, args) for (label, n), group in groups(rows).items() if n == k}
        found = {label: cells for label, cells in found.items() if cells}
        distilled = {label: cells for label, cells in found.items() if "distilled" in cells}
        done, when = (distilled, "distilled") if distilled else (found, "zero-shot")
        windows = {
            label: np.mean(cells[when][f"per_sequence_{length}"], axis=0).tolist()
            for label, cells in done.items()
        }
        ours = [label for label in done if label.startswith("kl_")]
        if len(done) < 2 or not ours:
            continue
        lines += ["", f"### {k} softmax layers, {when}: farther than", ""]
        lines += ["| selector | " + " | ".join(ours) + " |", "| --- |" + " ---: |" * len(ours)]
        for label, own in windows.items():
            gaps = [
                "" if label == other else "{:+.4f} +- {:.4f}".format(*stats.paired(own, windows[other]))
                for other in ours
            ]
            lines.append(f"| {label} | " + " | ".join(gaps) + " |")
        if distilled:
            same = {
                label: numbers([r for r in group if r["choice"].seed < args.distilled_seeds], results, args)
                for (label, n), group in groups(rows).items()
                if n == k and label in done
            }
            both = [
                [cells[stage][f"kl_{length}"] for cells in same.values()]
                for stage in ("zero-shot", "distilled")
            ]
            rho = select.spearman(*both)
            lines += ["", f"Spearman between before and after step 2: {rho:.3f} over {len(done)} selectors."]
    return "\n".join(lines)


def pooled(rows) -> list[dict]:
    """For each selector that scored several texts: how alike the seeds' rankings and sets are (means over
    pairs), and the layers that all texts together choose.
    """
    rows_ = []
    for (label, k), group in groups(rows).items():
        scores = [row["scores"] for row in group]
        if len(group) < 2 or not scores[0].by_mean:
            continue
        alike = rankings.agreement(scores, k)
        off = ~np.eye(len(group), dtype=bool)
        whole = replace(scores[0], per_sequence=np.concatenate([s.per_sequence for s in scores], axis=1))
        mean = {name: float(np.array(alike[name])[off].mean()) for name in ("spearman", "jaccard")}
        rows_.append({"label": label, "k": k, "texts": len(group), "layers": whole.top(k), **mean})
    return rows_


def with_kl(pooled, results, args) -> list[dict]:
    """`pooled` with the KL before step 2 of what all texts choose, None where it was not read."""
    cells = [results.get((tuple(row["layers"]), None)) for row in pooled]
    length = str(args.lengths[0])
    kls = [cell["lengths"][length]["kl"] if cell else None for cell in cells]
    return [{**row, "kl": kl} for row, kl in zip(pooled, kls, strict=True)]


def agreement(pooled, results, args) -> str:
    """`pooled` as a table, with the KL before step 2 of what all texts choose."""
    lines = ["", "### Other text, and more of it", ""]
    lines += ["| selector | k | Spearman | Jaccard | KL of all texts' choice | layers |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | --- |"]
    for row in with_kl(pooled, results, args):
        layers, kl = " ".join(map(str, row["layers"])), "" if row["kl"] is None else f"{row['kl']:.4f}"
        alike = f"{row['spearman']:.2f} | {row['jaccard']:.2f}"
        lines.append(f"| {row['label']} | {row['k']} | {alike} | {kl} | {layers} |")
    return "\n".join(lines)


def orders(results, args) -> str:
    """How much a hybrid's KL varies with the order of the text of step 2, over sets that had several."""
    length, by = str(args.lengths[0]), defaultdict(list)
    for (layers, seed), cell in results.items():
        if seed is not None:
            by[layers].append(cell["lengths"][length]["kl"])
    spreads = [np.var(values, ddof=1) for values in by.values() if len(values) > 1]
    if not spreads:
        return ""
    return (
        f"\nOrder of step 2's text: a standard deviation of {math.sqrt(np.mean(spreads)):.4f} nats, over "
        f"{len(spreads)} sets of two orders or more."
    )


def _cell(part, column) -> str:
    if column not in part:
        return ""
    text = format(part[column], {"kl": ".4f", "ppl": ".1f"}.get(column.partition("_")[0], ".2f"))
    spread = part.get(f"{column}_spread", math.nan)
    return text if math.isnan(spread) or not column.startswith("kl") else f"{text} ± {spread:.4f}"


def save(rows, pooled, results, args) -> None:
    """results.json, table.md, and a chart for each budget when matplotlib is there."""
    from hybridattn import show_config
    from hybridattn.report import plots

    whole = "\n".join(make(rows, results, args) for make in (markdown, pairs))
    whole += "\n" + orders(results, args) + "\n" + agreement(pooled, results, args)
    files.atomic_write(args.out / "table.md", whole + "\n")
    content = [
        {
            "label": label,
            "k": k,
            "layers": [list(row["layers"]) for row in group],
            "seeds": [row["choice"].seed for row in group],
            "cost": [row["scores"].cost for row in group],
            "seconds": [row["scores"].seconds for row in group],
            "results": numbers(group, results, args),
        }
        for (label, k), group in groups(rows).items()
    ]
    settings = {name: value for name, value in vars(args).items() if name != "out"}
    whole = {
        "settings": settings,
        "machine": show_config(),
        "selectors": content,
        "pooled": with_kl(pooled, results, args),
    }
    files.write_sheet(args.out / "results.json", whole)
    if not plots.available():
        print("no charts: matplotlib is not installed")
        return
    for k in args.budgets:
        points = {
            row["label"]: {when: part[f"kl_{args.lengths[0]}"] for when, part in row["results"].items()}
            for row in content
            if row["k"] == k and row["results"]
        }
        if points:
            png = plots.selectors(points, f"{k} softmax layers, windows of {args.lengths[0]} tokens")
            files.atomic_write(args.out / f"selectors-{k}.png", png)


def correlations(rows, results, args) -> str:
    """How well scores, averaged over seeds, predict (1) kl_restore_distilled, layer by layer, (2) which set
    gives the better hybrid.
    """
    lines = ["", "Spearman's rank correlation with 95% bootstrap intervals.", ""]
    lines += ["| scores | with | n | rho | low | high |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    seen = defaultdict(dict)
    for row in rows:
        choice, scores = row["choice"], row["scores"]
        if scores.num_sequences:
            seen[choice.label, choice.k][choice.seed] = scores.values
    values = {key: np.mean(list(by_seed.values()), axis=0) for key, by_seed in seen.items()}
    middle = {label: own for (label, k), own in values.items() if k == _middle(args)}
    for target, other in middle.items():
        for label, own in middle.items():
            if label != target and target.startswith("kl_restore_distilled"):
                lines.append(_line(label, target, len(own), rankings.correlation(own, other)))
    length = str(args.lengths[0])
    for (label, k), own in values.items():
        for when, before in (("before step 2", True), ("after step 2", False)):
            kl = defaultdict(list)
            for (layers, seed), cell in results.items():
                if (seed is None) == before and len(layers) == k:
                    kl[layers].append(cell["lengths"][length]["kl"])
            if len(kl) < 4:
                continue
            kept = [float(own[list(layers)].sum()) for layers in kl]
            found_ = rankings.correlation(kept, [-float(np.mean(orders)) for orders in kl.values()])
            lines.append(_line(f"sum of {label}", f"closeness {when}, {k} layers", len(kl), found_))
    return "\n".join(lines)


def _middle(args) -> int:
    """The budget whose scores stand for a method that is run for each one."""
    return min(args.budgets, key=lambda k: abs(k - 8))


def _line(label, target, n, value) -> str:
    return f"| {label} | {target} | {n} | {value['value']:.2f} | {value['low']:.2f} | {value['high']:.2f} |"
