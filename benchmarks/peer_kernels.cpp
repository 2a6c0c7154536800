// NMS and RoIAlign on a CPU for torchvision installations whose own library does not load.
//
// Written from the documented rules: greedy suppression where IoU > threshold; RoIAlign is the mean
// of bilinear samples, a sample more than one cell outside the map is 0, a nearer one is clamped.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

namespace {

struct Tap {
  int64_t position[4];
  float weight[4];
};

// The taps of all samples of one roi [5]: (batch, x1, y1, x2, y2); side samples per cell and axis.
struct Plan {
  std::vector<Tap> taps;  // [ph][pw][samples]
  int samples;
};

Plan make_plan(const float* roi, float scale, int ph, int pw, int ratio, bool aligned, int64_t h,
               int64_t w) {
  const float offset = aligned ? 0.5f : 0.0f;
  const float x1 = roi[1] * scale - offset, y1 = roi[2] * scale - offset;
  float width = roi[3] * scale - offset - x1, height = roi[4] * scale - offset - y1;
  if (!aligned) {
    width = std::max(width, 1.0f);
    height = std::max(height, 1.0f);
  }
  const float cell_h = height / ph, cell_w = width / pw;
  const int rows = ratio > 0 ? ratio : std::max(1, static_cast<int>(std::ceil(cell_h)));
  const int columns = ratio > 0 ? ratio : std::max(1, static_cast<int>(std::ceil(cell_w)));
  Plan plan{{}, rows * columns};
  plan.taps.reserve(static_cast<size_t>(ph) * pw * plan.samples);
  for (int i = 0; i < ph * rows; i += rows)
    for (int j = 0; j < pw * columns; j += columns)
      for (int a = i; a < i + rows; ++a)
        for (int b = j; b < j + columns; ++b) {
          Tap tap{};
          float y = y1 + (a + 0.5f) * cell_h / rows, x = x1 + (b + 0.5f) * cell_w / columns;
          if (y >= -1.0f && y <= h && x >= -1.0f && x <= w) {
            y = std::clamp(y, 0.0f, static_cast<float>(h - 1));
            x = std::clamp(x, 0.0f, static_cast<float>(w - 1));
            const int64_t top = static_cast<int64_t>(y), left = static_cast<int64_t>(x);
            const int64_t low = std::min(top + 1, h - 1), right = std::min(left + 1, w - 1);
            const float fy = (y - top), fx = (x - left), share = 1.0f / plan.samples;
            tap = {{top * w + left, top * w + right, low * w + left, low * w + right},
                   {(1 - fy) * (1 - fx) * share, (1 - fy) * fx * share, fy * (1 - fx) * share,
                    fy * fx * share}};
          }
          plan.taps.push_back(tap);
        }
  return plan;
}

// Calls work(0) ... work(count - 1) on so many threads. Plain threads, because a second OpenMP
// runtime beside torch's would fight with it for the cores.
template <typename Work>
void parallel_for(int64_t count, int threads, const Work& work) {
  std::atomic<int64_t> next{0};
  const auto take = [&] {
    for (int64_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(take);
  take();
  for (std::thread& other : others) other.join();
}

}  // namespace

extern "C" {

// boxes [n][4] best first; keep [n] comes out as 0 or 1.
void nms(const float* boxes, int64_t n, float threshold, uint8_t* keep) {
  std::fill(keep, keep + n, 1);
  for (int64_t i = 0; i < n; ++i) {
    if (!keep[i]) continue;
    const float* a = boxes + 4 * i;
    const float area = (a[2] - a[0]) * (a[3] - a[1]);
    for (int64_t j = i + 1; j < n; ++j) {
      const float* b = boxes + 4 * j;
      const float w = std::min(a[2], b[2]) - std::max(a[0], b[0]);
      const float h = std::min(a[3], b[3]) - std::max(a[1], b[1]);
      const float inter = std::max(w, 0.0f) * std::max(h, 0.0f);
      if (inter / (area + (b[2] - b[0]) * (b[3] - b[1]) - inter) > threshold) keep[j] = 0;
    }
  }
}

// map [n][c][h][w], rois [k][5] -> crops [k][c][ph][pw].
void roi_align_forward(const float* map, const float* rois, int64_t k, int64_t c, int64_t h,
                       int64_t w, float scale, int ph, int pw, int ratio, int aligned,
                       float* crops, int threads) {
  parallel_for(k, threads, [=](int64_t r) {
    const float* roi = rois + 5 * r;
    const Plan plan = make_plan(roi, scale, ph, pw, ratio, aligned, h, w);
    for (int64_t channel = 0; channel < c; ++channel) {
      const float* from = map + (static_cast<int64_t>(roi[0]) * c + channel) * h * w;
      float* to = crops + (r * c + channel) * ph * pw;
      const Tap* tap = plan.taps.data();
      for (int cell = 0; cell < ph * pw; ++cell) {
        float sum = 0.0f;
        for (int s = 0; s < plan.samples; ++s, ++tap)
          for (int t = 0; t < 4; ++t) sum += from[tap->position[t]] * tap->weight[t];
        to[cell] = sum;
      }
    }
  });
}

// The gradient of crops is added to that of the map; a thread owns whole channels.
void roi_align_backward(const float* crops, const float* rois, int64_t k, int64_t c, int64_t h,
                        int64_t w, float scale, int ph, int pw, int ratio, int aligned,
                        float* map, int threads) {
  constexpr int64_t kBlock = 32;
  parallel_for((c + kBlock - 1) / kBlock, threads, [=](int64_t block) {
    const int64_t first = block * kBlock;
    for (int64_t r = 0; r < k; ++r) {
      const float* roi = rois + 5 * r;
      const Plan plan = make_plan(roi, scale, ph, pw, ratio, aligned, h, w);
      for (int64_t channel = first; channel < std::min(c, first + kBlock); ++channel) {
        float* to = map + (static_cast<int64_t>(roi[0]) * c + channel) * h * w;
        const float* from = crops + (r * c + channel) * ph * pw;
        const Tap* tap = plan.taps.data();
        for (int cell = 0; cell < ph * pw; ++cell)
          for (int s = 0; s < plan.samples; ++s, ++tap)
            for (int t = 0; t < 4; ++t) to[tap->position[t]] += from[cell] * tap->weight[t];
      }
    }
  });
}

}  // extern "C"
