#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The whole build of a project that has no build system: build.sh APP.CC OUT PREFIX
# A tree that stays where it was installed needs neither PREFIX nor the eval for its spaces.
set -eu
prefix=$(printf '%s' "$3" | sed 's/ /\\ /g')
flags=$(pkg-config --define-variable=prefix="$prefix" --cflags --libs slipring)
eval "${CXX:-g++} -std=c++20 \"\$1\" -o \"\$2\" $flags"
