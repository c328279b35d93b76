// SPDX-License-Identifier: Apache-2.0
#include "server/metrics/registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace trireme::server {
namespace {

// Backslash, quote and line feed are escaped in label values.
std::string Escaped(const std::string& value) {
  std::string text;
  for (char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
  return text;
}

// {a="x",le="0.5"}, or nothing without labels.
std::string LabelText(const Labels& labels, const std::string& bound = "") {
  std::string text;
  for (const auto& [name, value] : labels) {
    text += fmt::format("{}{}=\"{}\"", text.empty() ? "" : ",", name, Escaped(value));
  }
  if (!bound.empty()) text += fmt::format("{}le=\"{}\"", text.empty() ? "" : ",", bound);
  return text.empty() ? text : "{" + text + "}";
}

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(bounds_.size() + 1) {}

void Histogram::Observe(double value, int64_t count) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(count, std::memory_order_relaxed);
  sum_.fetch_add(value * static_cast<double>(count), std::memory_order_relaxed);
}

MetricsRegistry::Series& MetricsRegistry::FindOrAdd(const std::string& name,
                                                    const std::string& help,
                                                    const std::string& type, const Labels& labels) {
  Family& family = families_[name];
  family.help = help;
  family.type = type;
  for (const auto& series : family.series) {
    if (series->labels == labels) return *series;
  }
  family.series.push_back(std::make_unique<Series>());
  family.series.back()->labels = labels;
  return *family.series.back();
}

Counter& MetricsRegistry::AddCounter(const std::string& name, const std::string& help,
                                     const Labels& labels) {
  MutexLock lock(mutex_);
  Series& series = FindOrAdd(name, help, "counter", labels);
  if (series.counter == nullptr) series.counter = std::make_unique<Counter>();
  return *series.counter;
}

Histogram& MetricsRegistry::AddHistogram(const std::string& name, const std::string& help,
                                         const Labels& labels, std::vector<double> bounds) {
  MutexLock lock(mutex_);
  Series& series = FindOrAdd(name, help, "histogram", labels);
  if (series.histogram == nullptr)
    series.histogram = std::make_unique<Histogram>(std::move(bounds));
  return *series.histogram;
}

void MetricsRegistry::AddGauge(const std::string& name, const std::string& help,
                               const Labels& labels, std::function<double()> read) {
  MutexLock lock(mutex_);
  FindOrAdd(name, help, "gauge", labels).gauge = std::move(read);
}

std::string MetricsRegistry::Text() const {
  MutexLock lock(mutex_);
  std::string text;
  for (const auto& [name, family] : families_) {
    text += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, family.help, name, family.type);
    for (const auto& series : family.series) {
      if (series->counter != nullptr) {
        text += fmt::format("{}{} {}\n", name, LabelText(series->labels), series->counter->value());
      } else if (series->gauge) {
        text += fmt::format("{}{} {}\n", name, LabelText(series->labels), series->gauge());
      } else if (series->histogram != nullptr) {
        const Histogram& histogram = *series->histogram;
        int64_t total = 0;
        for (size_t i = 0; i < histogram.counts_.size(); ++i) {
          total += histogram.counts_[i].load(std::memory_order_relaxed);
          const std::string bound =
              i < histogram.bounds_.size() ? fmt::format("{}", histogram.bounds_[i]) : "+Inf";
          text += fmt::format("{}_bucket{} {}\n", name, LabelText(series->labels, bound), total);
        }
        text += fmt::format("{}_sum{} {}\n", name, LabelText(series->labels),
                            histogram.sum_.load(std::memory_order_relaxed));
        text += fmt::format("{}_count{} {}\n", name, LabelText(series->labels), total);
      }
    }
  }
  return text;
}

}  // namespace trireme::server
