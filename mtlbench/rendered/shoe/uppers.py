"""Draws a shoe's sole and heel, and the upper of each category."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mtlbench.rendered.drawing import BLACK, WHITE, Canvas, Points, join, mix, moved, smooth
from mtlbench.rendered.shoe.foot import Foot, level
from mtlbench.rendered.shoe.paint import Paint


def draw_sole(canvas: Canvas, foot: Foot, paint: Paint, style: Points) -> None:
    """Draw the sole, and the heel under its back; the heel's form is random, its height is the label."""
    ground = -foot.sole

    def under(u: Points) -> Points:
        return np.stack([foot.across(u), foot.rise(u) - foot.thickness(u)], axis=1)

    def on_ground(u: float) -> Points:
        return np.array([[foot.across(np.array(u)), ground]])

    if foot.heel > 0.02:
        form = int(style[0] * 4)
        if form == 0:  # block
            outline = join(under(np.linspace(0.73, 0.99, 5)), on_ground(0.985), on_ground(0.755))
        elif form == 1:  # cone
            outline = join(under(np.linspace(0.73, 1.0, 5)), on_ground(0.955), on_ground(0.82))
        elif form == 2:  # wedge
            outline = join(under(np.linspace(0.36, 0.995, 12)), on_ground(0.985), on_ground(0.36))
        else:  # stiletto
            top = under(np.linspace(0.77, 1.0, 5))
            waist = foot.across(np.array([0.965, 0.885]))
            y = ground + (top[-1, 1] - ground) * np.array([0.5, 0.55])
            outline = join(top, np.array([[waist[0], y[0]]]), on_ground(0.965), on_ground(0.905), [(waist[1], y[1])])
        canvas.fill(outline, paint.heel, 90)
        tip = outline[outline[:, 1] <= ground + 1e-6]
        canvas.stroke(moved(tip, 0.0, 0.006), 0.018, mix(paint.heel, BLACK, 0.5), 80)
    toe = foot.last.toe[0][0] - 0.015
    canvas.fill(join(foot.at(level(toe, 1.0, 0.012)), under(np.linspace(1.0, toe, 24))), paint.sole, 110)


@dataclass(frozen=True)
class Upper:
    """The facts about a drawn upper that later layers need."""

    zone: Points  # (4, 2) corners of the closure: front low, front high, back high, back low
    edges: tuple[Points, ...]  # toplines, in foot coordinates


def _low_shoe(canvas: Canvas, foot: Foot, paint: Paint, style: Points) -> Upper:
    tongue, back = (0.455, 0.305 + 0.03 * style[1]), (0.965, 0.285 + 0.04 * style[2])
    dip = 0.205 + 0.03 * style[3]
    collar = smooth([tongue, (0.55, dip + 0.035), (0.68, dip), (0.84, dip + 0.03), back])
    far = smooth([tongue, (0.58, dip + 0.075), (0.74, dip + 0.06), back])
    canvas.fill(foot.at(join(far, collar[::-1])), paint.lining, 70)
    front = smooth([*foot.last.toe, (0.30, 0.205), tongue])
    heel = smooth([back, (1.0, 0.19), (1.008, 0.09), (0.99, 0.0)])
    canvas.fill(foot.at(join(front, collar, heel, level(0.98, 0.0))), paint.upper, 150, body=True)
    counter = smooth([(0.79, 0.0), (0.82, 0.11), (0.89, dip + 0.03)])
    rear = smooth([(0.945, dip + 0.05), (0.992, 0.17), (1.0, 0.09), (0.982, 0.0)])
    canvas.fill(foot.at(join(counter, rear)), paint.panel, 156)
    canvas.stroke(foot.at(counter), 0.010, mix(paint.panel, BLACK, 0.45), 135)
    canvas.dashes(foot.at(moved(counter, 0.020, 0.0)), 6, 0.010, paint.stitch, 156)
    return Upper(np.array([(0.285, 0.185), (0.465, 0.300), (0.66, dip - 0.01), (0.50, 0.035)]), (collar,))


def _boot(canvas: Canvas, foot: Foot, paint: Paint, style: Points) -> Upper:
    top = 0.58 + 0.08 * style[1]
    slant = 0.05 * (style[2] - 0.5)
    front, back = (0.50, top + slant), (0.945, top - slant)
    collar = smooth([front, (0.72, top - 0.02 - 0.03 * style[3]), back])
    far = smooth([front, (0.72, top + 0.035), back])
    canvas.fill(foot.at(join(far, collar[::-1])), paint.lining, 70)
    instep = smooth([*foot.last.toe, (0.29, 0.205), (0.40, 0.29), (0.465, 0.40), (0.49, 0.50), front])
    heel = smooth([back, (0.935, 0.42), (0.955, 0.30), (1.0, 0.17), (1.005, 0.08), (0.99, 0.0)])
    canvas.fill(foot.at(join(instep, collar, heel, level(0.98, 0.0))), paint.upper, 150, body=True)
    counter = smooth([(0.77, 0.0), (0.81, 0.13), (0.89, 0.23), (0.955, 0.26)])
    canvas.fill(foot.at(join(counter, smooth([(0.990, 0.17), (0.998, 0.08), (0.982, 0.0)]))), paint.panel, 156)
    canvas.stroke(foot.at(counter), 0.010, mix(paint.panel, BLACK, 0.45), 135)
    canvas.dashes(foot.at(moved(counter, 0.016, -0.016)), 7, 0.010, paint.stitch, 156)
    return Upper(
        np.array([(0.375, 0.255), (0.505, top - 0.03), (0.74, top - 0.05), (0.62, 0.14)]),
        (moved(collar, 0.0, -0.012),),
    )


def _sandal(canvas: Canvas, foot: Foot, paint: Paint, style: Points) -> Upper:
    bed = foot.last.toe[0][0] - 0.01
    canvas.fill(foot.at(join(level(bed, 0.99, 0.03), level(0.99, bed))), paint.lining, 118)
    ankle = 0.27 + 0.05 * style[1]
    shade = mix(paint.upper, BLACK, 0.45)
    behind = smooth([(0.50, ankle), (0.70, ankle + 0.050), (0.88, ankle + 0.025), (0.955, ankle - 0.05)])
    canvas.stroke(foot.at(behind), 0.030, shade, 80)
    canvas.stroke(foot.at(smooth([(0.30, 0.02), (0.36, 0.15), (0.43, ankle - 0.01)])), 0.04, shade, 80)
    cup = join(
        smooth([(0.80, 0.0), (0.86, 0.07), (0.915, 0.12), (0.935, ankle - 0.05)]),
        smooth([(0.980, ankle - 0.05), (1.0, 0.15), (1.006, 0.08), (0.985, 0.0)]),
    )
    canvas.fill(foot.at(join(cup, level(0.98, 0.80))), paint.panel, 150, body=True)
    sling = smooth(
        [(0.52, ankle), (0.66, ankle - 0.012), (0.82, ankle - 0.008), (0.92, ankle - 0.02), (0.957, ankle - 0.07)]
    )
    canvas.stroke(foot.at(sling), 0.040, paint.upper, 165)
    height = foot.toe_height(0.16)
    front = smooth([(0.055, 0.0), (0.075, 0.6 * height), (0.12, height)])
    rear = smooth([(0.215, height + 0.02), (0.255, 0.09), (0.265, 0.0)])
    canvas.fill(foot.at(join(front, rear, level(0.265, 0.055))), paint.upper, 150, body=True)
    low = smooth([(0.345, 0.0), (0.355, 0.13), (0.40, ankle)])
    high = smooth([(0.57, ankle + 0.012), (0.605, 0.14), (0.635, 0.0)])
    canvas.fill(foot.at(join(low, high, level(0.635, 0.345))), paint.upper, 150, body=True)
    return Upper(
        np.array([(0.36, 0.085), (0.40, ankle - 0.005), (0.57, ankle), (0.605, 0.03)]),
        (moved(front, 0.012, 0.0), moved(rear, -0.012, 0.0), moved(low, 0.012, 0.0), moved(high, -0.012, 0.0)),
    )


def _slipper(canvas: Canvas, foot: Foot, paint: Paint, style: Points) -> Upper:
    pad = smooth([(0.40, 0.034), (0.55, 0.032), (0.70, 0.032), (0.85, 0.034), (0.96, 0.030), (0.992, 0.0)])
    canvas.fill(foot.at(join(pad, level(0.98, 0.40))), paint.lining, 118)
    lip = (0.49 + 0.03 * style[1], 0.285 + 0.03 * style[2])
    edge = smooth([lip, (lip[0] + 0.065, 0.20), (lip[0] + 0.085, 0.09), (lip[0] + 0.09, 0.0)])
    far = smooth([lip, (lip[0] + 0.11, 0.21), (lip[0] + 0.13, 0.10), (lip[0] + 0.13, 0.02)])
    canvas.fill(foot.at(join(far, edge[::-1])), mix(paint.lining, BLACK, 0.35), 80)
    front = smooth([*foot.last.toe, (0.30, 0.215), lip])
    canvas.fill(foot.at(join(front, edge, level(edge[-1, 0], 0.0))), paint.upper, 150, body=True)
    if style[3] < 0.5:
        canvas.stroke(foot.at(edge), 0.045, mix(paint.lining, WHITE, 0.5), 165)
    else:
        canvas.dashes(foot.at(moved(edge, -0.022, 0.0)), 8, 0.010, paint.stitch, 150)
    return Upper(
        np.array([(0.265, 0.175), (lip[0] - 0.02, lip[1] - 0.015), (lip[0] + 0.055, 0.11), (0.43, 0.025)]),
        (moved(edge, -0.03, 0.0),),
    )


UPPERS: dict[str, Callable[[Canvas, Foot, Paint, Points], Upper]] = {
    "Shoes": _low_shoe,
    "Boots": _boot,
    "Sandals": _sandal,
    "Slippers": _slipper,
}
