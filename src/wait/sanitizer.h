// SPDX-License-Identifier: Apache-2.0
#pragma once

// ThreadSanitizer knows neither fences nor pthread_mutex_clocklock: two places go another way.
#if defined(__SANITIZE_THREAD__)
#define SLIPRING_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SLIPRING_TSAN 1
#endif
#endif
