# SPDX-License-Identifier: Apache-2.0
"""Tried: Spack 0.23 checks it (style, audit), resolves it (spec), unpacks the wheels and configures
(install --until cmake), with Debian 12's packages as externals. Not built; not tried with Spack 1.
"""

import os

from spack.package import *

try:  # Since Spack 1.0.
    from spack_repo.builtin.build_systems.cmake import CMakePackage
except ImportError:  # Before, the line above names it.
    pass

CHECKOUT = os.path.realpath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 5))
PYPI = "https://files.pythonhosted.org/packages/"


class Temper(CMakePackage):
    """An MPI and Slurm-native trainer that fine-tunes pretrained language models."""

    git = f"file://{CHECKOUT}"
    license("Apache-2.0")

    version("0.1.0", branch="main")

    depends_on("c", type="build")
    depends_on("cxx", type="build")
    depends_on("cmake@3.25:", type="build")
    depends_on("ninja", type="build")
    depends_on("unzip", type="build")
    depends_on("mpi@3.1:")
    depends_on("hdf5~mpi@1.10:")
    depends_on("yaml-cpp@0.6:")
    depends_on("nlohmann-json@3.11:")
    depends_on("cli11@2.1:")
    depends_on("openssl@3:")
    requires("target=x86_64_v3:", msg="the pinned LibTorch is built for x86-64")

    generator("ninja")

    # LibTorch, with what its CPU library is linked with: the wheels of launch/lock. Not py-torch,
    # since the last bits of results depend on it.
    resource(
        name="torch",
        url=PYPI + "1a/c9/82638ef24d7877510f83baf821f5619a61b45568ce21c0a87a91576510aa/"
        "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
        sha256="0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
        expand=False,
        placement="wheels/torch",
    )
    resource(
        name="cupti",
        url=PYPI + "33/6d/737d164b4837a9bbd202f5ae3078975f0525a55730fe871d8ed4e3b952b0/"
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        sha256="4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
        expand=False,
        placement="wheels/cupti",
    )
    resource(
        name="cudart",
        url=PYPI + "b1/1d/9ea7b0d420efcae3c546feb3ca14334c0d710ac19c156ac48fce07c3d6ae/"
        "nvidia_cuda_runtime-13.0.88-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        sha256="422a38f7c739ecbdd3a4b6ec7ed0a1d74db43d8e9bc26685f3d845638922b178",
        expand=False,
        placement="wheels/cudart",
    )

    @run_before("cmake")
    def unpack_libtorch(self):
        unzip = which("unzip", required=True)
        for wheel in find(join_path(self.stage.source_path, "wheels"), "*.whl"):
            unzip("-q", "-o", wheel, "-d", join_path(self.stage.source_path, "libtorch"))

    def cmake_args(self):
        return [
            self.define("TEMPER_TORCH", join_path(self.stage.source_path, "libtorch", "torch")),
            self.define("TEMPER_UNITY", True),
            self.define("BUILD_TESTING", False),
        ]
