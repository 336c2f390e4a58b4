from __future__ import annotations

from mmengine.config import Config

from mmvitx.engine import launch


def test_processes_on_gpus_are_set_up_as_mmengine_does(monkeypatch):
    calls = []
    monkeypatch.setattr(launch, 'get_device', lambda: 'cuda')
    for name in ('set_multi_processing', 'init_dist'):
        monkeypatch.setattr(
            launch, name, lambda *args, name=name, **kwargs: calls.append((name, args, kwargs))
        )
    env = dict(mp_cfg=dict(mp_start_method='fork'), dist_cfg=dict(backend='nccl', timeout=1800))
    launch._init_processes(Config(dict(launcher='pytorch', env_cfg=env)))
    assert calls == [
        ('set_multi_processing', (), dict(mp_start_method='fork', distributed=True)),
        ('init_dist', ('pytorch',), dict(backend='nccl', timeout=1800)),
    ]
