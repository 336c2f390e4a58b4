"""Package mmvitx as OpenMMLab packages its own, `.mim` folder included."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FOR_MIM = ('configs', 'tools', 'model-index.yml')


def requirements(*names: str) -> list[str]:
    """Read `requirements/<name>.txt`, without comments."""
    lines = [
        line.partition('#')[0].strip()
        for name in names
        for line in (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    ]
    return sorted(set(filter(None, lines)))


class BuildWithMim(build_py):
    """Put configs, tools and the model index where mim looks for them: `mmvitx/.mim`.

    A wheel gets copies. An editable install gets links in the source tree (git ignores them), so
    that what is found there are the repository's own files.
    """

    def run(self) -> None:
        super().run()
        folder = (ROOT if self.editable_mode else Path(self.build_lib)) / 'mmvitx/.mim'
        shutil.rmtree(folder, ignore_errors=True)  # what an earlier build left
        folder.mkdir(parents=True)
        for name in FOR_MIM:
            if self.editable_mode:
                (folder / name).symlink_to(Path('../..', name))
            elif (ROOT / name).is_dir():
                no_caches = shutil.ignore_patterns('__pycache__', '.*')
                shutil.copytree(ROOT / name, folder / name, ignore=no_caches)
            else:
                shutil.copy(ROOT / name, folder / name)


version: dict[str, str] = {}
exec((ROOT / 'mmvitx/version.py').read_text(), version)

setup(
    name='mmvitx',
    version=version['__version__'],
    description='CoaT, CrossViT and CaiT in MMDetection, MMSegmentation and MMPretrain',
    long_description='\n'.join(path.read_text() for path in [ROOT / 'README.md'] if path.is_file()),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='object detection, instance segmentation, image classification, vision transformer',
    classifiers=[
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmvitx', 'mmvitx.*']),
    python_requires='>=3.9',
    install_requires=requirements('runtime'),
    extras_require={
        'det': requirements('det'),
        'seg': requirements('seg'),
        'pretrain': requirements('pretrain'),
        'all': requirements('det', 'seg', 'pretrain', 'optional'),
        'dev': requirements('dev'),
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
