"""Numbers as a reader of the report wants them: success in per cent, differences in points, empty cells where none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from vlaw_assets.reports.success import Rate, markdown, rate

TITLES = {
    "base": "base",
    "filtered_bc": "filtered BC",
    "vlaw": "VLAW",
    "dsrl": "DSRL",
    "dsrl_imagined": "DSRL inside the world model",
    "real_only_more": "filtered BC, more real",
    "vlaw_expert_only_world_model": "VLAW, expert-only world model",
    "vlaw_half_synthetic": "VLAW, half the synthetic data",
    "vlaw_no_real_in_policy": "VLAW, no real data in the policy",
    "vlaw_surer_judge": "VLAW, surer judge",
    "vlaw_expert_control_world_model": "VLAW, expert-only world model, control",
    "vlaw_awr": "VLAW, AWR weights",
    "vlaw_recap": "VLAW, RECAP",
    "imagined_true_labels": "imagined, true labels",
    "oracle": "oracle simulator",
    "world_vla_loop": "World-VLA-Loop",
    "world_vla_loop_no_near_success": "World-VLA-Loop, no near-success data",
    "world_vla_loop_no_reward_head": "World-VLA-Loop, no reward head",
    "grpo_on_robot": "GRPO on the robot",
    "vlaw_reward_head": "VLAW, reward head as judge",
}
"""How arms are called in the report; others keep the recipe's name."""
OVER_SEEDS = "over seeds [95 %]"
"""Heading of the columns with Student t intervals over seeds."""
PRIVILEGED = " †"
NOTE = "† privileged: it uses the simulator where a robot has nothing. A ceiling, not a method."


def title(recipe: str, iteration: int | None = None, *, privileged: bool = False) -> str:
    """'VLAW 2', 'oracle simulator 1 †', 'base'."""
    number = f" {iteration}" if iteration else ""
    return f"{TITLES.get(recipe, recipe)}{number}{PRIVILEGED if privileged else ''}"


def percent(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{100 * value:.{digits}f}"


def shown(found: Rate | None, *, counts: bool = False) -> str:
    """'55.6 [52.7, 58.4]', with counts '55.6 [52.7, 58.4] (667/1200)'; '' for None."""
    if found is None:
        return ""
    text = f"{percent(found.value)} [{percent(found.low)}, {percent(found.high)}]"
    return f"{text} ({found.successes}/{found.trials})" if counts else text


def proportion(successes: int | None, trials: int | None, *, counts: bool = True) -> str:
    """k of n as `shown`; '' without trials."""
    return shown(rate(int(successes), int(trials)), counts=counts) if trials and successes is not None else ""


def points(diff: float, low: float, high: float) -> str:
    """'+9.2 [+4.1, +14.3]': percentage points."""
    return f"{100 * diff:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def over_seeds(found: tuple[float, float, float] | None) -> str:
    """'+9.2 [+4.1, +14.3]' of the seeds' differences; 'one seed' for None."""
    return "one seed" if found is None else points(*found)


def rates_over_seeds(rates: Collection[float]) -> str:
    """'51.2 [47.0, 55.4]': mean of the seeds' rates with its Student t interval; 'one seed', and '' of none."""
    from vlaw_models.metrics.stats import t_interval

    if len(rates) < 2:
        return "one seed" if rates else ""
    mean, low, high = t_interval(list(rates))
    return f"{percent(mean)} [{percent(low)}, {percent(high)}]"


def number(value: float | None, digits: int = 3) -> str:
    """A metric; '' for None, '1.2e-05' where digits would hide it."""
    if value is None:
        return ""
    return f"{value:.{digits}f}" if value == 0 or abs(value) >= 10.0**-digits else f"{value:.1e}"


def hours(seconds: float | None) -> str:
    """'1 h 23 min', '2.5 min'."""
    if seconds is None:
        return ""
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown, with an empty line around it; '' without rows."""
    body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return f"\n{markdown([list(header), *body])}\n" if body else ""


def missing(what: Sequence[str]) -> str:
    """One line about what has not been run; '' where nothing is missing."""
    return f"\nNot there yet: {'; '.join(what)}.\n" if what else ""


def seeds_text(seeds: Iterable[int]) -> str:
    return ", ".join(str(seed) for seed in sorted(seeds))
