{
  # `npm install` and node-gyp both end in the same build: scripts/native.mjs, which runs cargo and go.
  'targets': [
    {
      'target_name': 'native',
      'type': 'none',
      'actions': [
        {
          'action_name': 'native',
          'inputs': ['scripts/native.mjs', 'native/session/Cargo.lock', 'native/link/Cargo.lock', 'native/tunnel/go.sum'],
          'outputs': ['native/session/build/selvedge-session.node', 'native/link/build/selvedge-link', 'native/tunnel/build/selvedge-tunnel'],
          'action': ['node', 'scripts/native.mjs'],
        },
      ],
    },
  ],
}
