"""The networks that a world model is measured with: in a folder that a person gives, or the judge's features.

Which files a folder holds, the digest of what is in it, whether a judge can be the substitute. Nothing is downloaded. A
folder is one of

    a judge's checkpoint    config.json of a ClipJudge: frames, clips and the perceptual distance
    feature networks        inception_v3.safetensors for frames, and r3d_18, mvit_v2_s or s3d.safetensors for clips;
    with
                            Inception alone, clips are its frames pooled in time
    LPIPS                   alexnet.safetensors or vgg16.safetensors, with its learned weights in lpips.safetensors

Files are state dicts of torchvision's models (`safetensors.torch.save_file(model.state_dict(), path)`).
torch is imported when something is loaded: the digest alone must be had quickly.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from vlaw_models.errors import VlawError

if TYPE_CHECKING:
    from vlaw_models.metrics.features import FeatureNet, JudgeNet
    from vlaw_models.metrics.perceptual import PerceptualNet

SUFFIX = ".safetensors"
FRAMES, LINEAR = "inception_v3", "lpips"


def folder_digest(folder: Path | str) -> str:
    """sha256 (hex) over names and contents of the files in a folder; where it lies does not count.

    VlawError where it is no folder or holds no weights.
    """
    root = Path(folder).expanduser()
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else []
    if not any(path.suffix == SUFFIX for path in files):
        raise VlawError(
            "no folder with the weights of a network (*.safetensors)",
            where=str(folder),
            remedy="Mend world_model_metrics.feature_net or perceptual_net of the recipe, or leave it empty for the "
            "judge's features.",
        )
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            inside = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(root).as_posix()}={inside}\n".encode())
    return total.hexdigest()


def load_feature_net(folder: Path | str) -> FeatureNet:
    """The network for Fréchet distances in a folder. VlawError where the files are missing, damaged or of another
    kind."""
    from vlaw_models.metrics.features import PairedNet, judge_net
    from vlaw_models.metrics.torchvision_nets import VIDEO_NETS, InceptionFrames, VideoNet

    root, names = _listed(folder)
    if names is None:
        return judge_net(root)
    videos = [name for name in VIDEO_NETS if name in names]
    if FRAMES not in names or len(videos) > 1:
        raise VlawError(
            f"the folder has {', '.join(sorted(names)) or 'no weights'}",
            where=str(root),
            remedy=f"Put {FRAMES}{SUFFIX} there and, for clips, one of {', '.join(VIDEO_NETS)} ({SUFFIX}); or give "
            "the checkpoint of a judge.",
        )
    frames = InceptionFrames(root / f"{FRAMES}{SUFFIX}")
    return PairedNet(frames, VideoNet(videos[0], root / f"{videos[0]}{SUFFIX}")) if videos else frames


def load_perceptual_net(folder: Path | str) -> PerceptualNet:
    """The network for the perceptual distance in a folder. VlawError as `load_feature_net`."""
    from vlaw_models.metrics.features import judge_net
    from vlaw_models.metrics.perceptual import STAGES, Lpips

    root, names = _listed(folder)
    if names is None:
        return judge_net(root)
    found = [name for name in STAGES if name in names]
    if len(found) != 1 or LINEAR not in names:
        raise VlawError(
            f"the folder has {', '.join(sorted(names)) or 'no weights'}",
            where=str(root),
            remedy=f"Put one of {', '.join(STAGES)} ({SUFFIX}) there and LPIPS's learned weights as {LINEAR}{SUFFIX}; "
            "or give the checkpoint of a judge.",
        )
    return Lpips(found[0], root / f"{found[0]}{SUFFIX}", root / f"{LINEAR}{SUFFIX}")


def judge_as_net(folder: Path | str, height: int, width: int) -> tuple[JudgeNet | None, str]:
    """(the judge's features, "") for pictures of that size; (None, why not) for a judge that has none for them.

    VlawError for a damaged folder.
    """
    from vlaw_models.metrics.features import judge_net
    from vlaw_models.reward_models.base import load_reward_model
    from vlaw_models.reward_models.clip_judge import ClipJudge

    judge = load_reward_model(folder)
    if not isinstance(judge, ClipJudge):
        return None, f"the pretrained judge is a {type(judge).__name__}, which has no frame encoder"
    if (judge.image_size, judge.image_size) != (height, width):
        return (
            None,
            (
                f"the pretrained judge looks at {judge.image_size}x{judge.image_size} pixels, the clips have "
                f"{width}x{height}"
            ),
        )
    return judge_net(folder), ""


def _listed(folder: Path | str) -> tuple[Path, set[str] | None]:
    """The folder, and the names of its weights without suffix; None for a checkpoint, which says itself what it is."""
    root = Path(folder).expanduser()
    if (root / "config.json").is_file():
        return root, None
    return root, {path.stem for path in root.glob(f"*{SUFFIX}")}
