// SPDX-License-Identifier: Apache-2.0
// Metrics in Prometheus' text format 0.0.4. Thread-safe; counters and histograms are lock-free.
//
// Our own, because Debian ships prometheus-cpp as shared libraries only and the one-file program
// links none.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"

namespace trireme::server {

using Labels = std::map<std::string, std::string>;

class Counter {
 public:
  void Add(double amount) { value_.fetch_add(amount, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);
  // The same value `count` times.
  void Observe(double value, int64_t count);

 private:
  friend class MetricsRegistry;
  const std::vector<double> bounds_;
  std::vector<std::atomic<int64_t>> counts_;  // one more than bounds: above the last
  std::atomic<double> sum_{0};
};

class MetricsRegistry {
 public:
  // References stay valid as long as the registry. The same name and labels give the same metric.
  Counter& AddCounter(const std::string& name, const std::string& help, const Labels& labels);
  Histogram& AddHistogram(const std::string& name, const std::string& help, const Labels& labels,
                          std::vector<double> bounds);
  // `read` is called at each scrape.
  void AddGauge(const std::string& name, const std::string& help, const Labels& labels,
                std::function<double()> read);

  std::string Text() const;

 private:
  struct Series {
    Labels labels;
    std::unique_ptr<Counter> counter;
    std::unique_ptr<Histogram> histogram;
    std::function<double()> gauge;
  };
  struct Family {
    std::string help;
    std::string type;
    std::vector<std::unique_ptr<Series>> series;
  };

  Series& FindOrAdd(const std::string& name, const std::string& help, const std::string& type,
                    const Labels& labels) REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::map<std::string, Family> families_ GUARDED_BY(mutex_);
};

}  // namespace trireme::server
