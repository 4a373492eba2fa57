{
  # `npm install` and node-gyp both end in the same build: scripts/native.mjs, which runs cargo.
  'targets': [
    {
      'target_name': 'native',
      'type': 'none',
      'actions': [
        {
          'action_name': 'cargo',
          'inputs': ['scripts/native.mjs', 'native/session/Cargo.lock', 'native/link/Cargo.lock'],
          'outputs': ['native/session/build/selvedge-session.node', 'native/link/build/selvedge-link'],
          'action': ['node', 'scripts/native.mjs'],
        },
      ],
    },
  ],
}
