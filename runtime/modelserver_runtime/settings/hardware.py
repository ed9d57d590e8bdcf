"""Where models are computed."""

from typing import Annotated

from pydantic import BaseModel, Field

# A kind of device, which of them, and for OpenVINO which of its own.
_DEVICE = r"(cuda|rocm|xpu|mps|openvino|qnn|cpu)(:\w+)?"

type DeviceName = Annotated[str, Field(pattern=f"^{_DEVICE}$")]


class HardwareSettings(BaseModel):
    device: Annotated[str, Field(pattern=f"^(Auto|{_DEVICE})$")] = Field(
        "Auto",
        description="where to compute: cuda, cuda:1, rocm, xpu, mps, openvino, openvino:GPU or "
        "cpu; Auto takes the first of the order that is usable",
    )
    device_order: tuple[DeviceName, ...] = Field(
        ("cuda", "rocm", "xpu", "mps", "cpu"),
        description="which devices Auto tries, and a fallback after the named one",
    )
    device_fallback: bool = Field(
        default=False,
        description="take the next device if the named one is unusable; else the start fails",
    )
